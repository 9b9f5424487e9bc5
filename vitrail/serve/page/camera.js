// A picture from the camera; browsers allow it on this machine and over HTTPS.

import { Refused } from "./api.js";
import { say } from "./say.js";

/** Shows the button where there may be a camera, and calls `take(files)` with the picture. */
export function offerCamera(button, dialog, take, fail) {
  button.hidden = !navigator.mediaDevices?.getUserMedia;
  const video = dialog.querySelector("video");
  const stop = () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  };
  button.addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      return fail(new Refused(say("The camera cannot be used. Allow it for this page, or choose a picture.")));
    }
    dialog.showModal();
    await video.play();
  });
  dialog.addEventListener("close", stop);
  dialog.querySelector("#leave").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    if (!canvas.width) return;
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    canvas.toBlob((blob) => take([new File([blob], say("camera"), { type: "image/jpeg" })]), "image/jpeg", 0.95);
  });
}
