"""The student's images, preprocessed for the teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError


class TeacherPreprocess:
    """``preprocess(images)``: augmented and mixed images of the student, B C H W, at the teacher's size and normalised
    by its mean and standard deviation.

    Both get the same crop: a teacher that gets another one than the student is worse (Beyer et al. 2022, "a good
    teacher is patient and consistent").

    Raises:
        UserError: the two take images of another number of channels.
    """

    def __init__(self, student: PreprocessConfig, teacher: PreprocessConfig, device: torch.device) -> None:
        if student.channels != teacher.channels:
            raise UserError(
                f"the teacher takes images of {teacher.channels} channels and the student of {student.channels}; "
                f"give --channels {teacher.channels}, or another teacher"
            )
        self.size = teacher.size
        # grey level = (x · std + mean) / rescale, of either
        mean, std, other_mean, other_std = (
            torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)
            for values in (student.mean, student.std, teacher.mean, teacher.std)
        )
        ratio = teacher.rescale / student.rescale
        scale, shift = ratio * std / other_std, (ratio * mean - other_mean) / other_std
        self.same = bool((scale == 1).all() and (shift == 0).all())
        self.scale, self.shift = scale.float().to(device), shift.float().to(device)

    def __call__(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != self.size:
            images = F.interpolate(images.float(), self.size, mode="bicubic", antialias=True)
        return images if self.same else images * self.scale + self.shift
