from __future__ import annotations

import asyncio

import pytest

from vitrail.serve.batcher import Batcher


class Model:
    """Answers each item with its batch; while ``open`` is unset it computes."""

    def __init__(self):
        self.batches, self.open, self.error = [], asyncio.Event(), None
        self.open.set()

    async def __call__(self, key, items):
        self.batches.append((key, list(items)))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [(key, item) for item in items]


def run(conversation, size=4, wait=0.01):
    async def main():
        model = Model()
        batcher = Batcher(model, lambda _: size, wait, fatal=ConnectionError)
        dispatching = asyncio.create_task(batcher.dispatch())
        try:
            return await asyncio.wait_for(conversation(batcher, model), 10)
        finally:
            dispatching.cancel()

    return asyncio.run(main())


async def started(*coroutines):
    tasks = [asyncio.create_task(each) for each in coroutines]
    await asyncio.sleep(0)
    return tasks


def test_each_gets_its_own_result_in_batches_no_larger_than_the_size():
    async def conversation(batcher, model):
        assert await asyncio.gather(*(batcher("a", i) for i in range(10))) == [("a", i) for i in range(10)]
        assert [len(items) for _, items in model.batches] == [4, 4, 2]

    run(conversation)


def test_one_waits_for_company_and_no_longer():
    async def conversation(batcher, model):
        clock = asyncio.get_running_loop().time
        begun = clock()
        first, second = await started(batcher("a", 1), batcher("a", 2))
        await asyncio.gather(first, second)
        assert 0.1 <= clock() - begun < 5
        assert model.batches == [("a", [1, 2])]

    run(conversation, wait=0.1)


def test_while_the_model_computes_full_batches_go_ahead_and_others_grow():
    async def conversation(batcher, model):
        model.open.clear()
        tasks = await started(batcher("a", 0))
        await asyncio.sleep(0.05)
        tasks += await started(*(batcher("a", i) for i in range(1, 4)))
        await asyncio.sleep(0.05)
        assert model.batches == [("a", [0])], "three are no full batch"
        tasks += await started(*(batcher("a", i) for i in range(4, 12)))
        await asyncio.sleep(0.05)
        assert [len(items) for _, items in model.batches] == [1, 4], "two are under way and no more"
        assert len(batcher) == 7
        model.open.set()
        assert await asyncio.gather(*tasks) == [("a", i) for i in range(12)]
        assert [len(items) for _, items in model.batches] == [1, 4, 4, 3]

    run(conversation)


def test_keys_never_mix_and_the_oldest_goes_first():
    async def conversation(batcher, model):
        model.open.clear()
        tasks = await started(batcher("x", 0))
        await asyncio.sleep(0.05)
        tasks += await started(*(batcher("ba"[i % 2], i) for i in range(4)))
        model.open.set()
        await asyncio.gather(*tasks)
        assert model.batches == [("x", [0]), ("b", [0, 2]), ("a", [1, 3])]

    run(conversation)


def test_an_error_is_the_batches_own_and_a_fatal_one_everybodys():
    async def conversation(batcher, model):
        model.error = ValueError("bad")
        results = await asyncio.gather(batcher("a", 1), batcher("a", 2), return_exceptions=True)
        assert [str(each) for each in results] == ["bad", "bad"]
        model.error = None
        assert await batcher("a", 3) == ("a", 3)

        model.open.clear()
        tasks = await started(*(batcher("a", i) for i in range(4)), *(batcher("b", i) for i in range(2)))
        await asyncio.sleep(0.05)
        model.error = ConnectionError("gone")
        model.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(each) for each in results] == ["gone"] * 6
        assert model.batches[-1][0] == "a", "the others were not even tried"
        assert len(batcher) == 0
        model.error = None
        assert await batcher("b", 7) == ("b", 7)

    run(conversation)


def test_nothing_is_computed_for_those_who_left():
    async def conversation(batcher, model):
        (task,) = await started(batcher("a", 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await batcher("a", 2) == ("a", 2)
        assert model.batches == [("a", [2])]

    run(conversation)
