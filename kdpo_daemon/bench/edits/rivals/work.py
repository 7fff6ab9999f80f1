"""What one process of a run does: the base model's answers, or a rival from batch to batch."""

import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kdpo_daemon.bench.edits.draw import batches
from kdpo_daemon.bench.edits.plan import BatchResult, Plan, Work, settings_of
from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals import memory
from kdpo_daemon.bench.edits.rivals.adalora import AdaLora
from kdpo_daemon.bench.edits.rivals.editor import Bench, Editor
from kdpo_daemon.bench.edits.rivals.finetune import BreadthFirst, FromTheLastPlace, OneByOne
from kdpo_daemon.bench.edits.rivals.located import AlphaEdit, Memit, Rome
from kdpo_daemon.bench.edits.rivals.lora import Lora, LoraDpo
from kdpo_daemon.bench.edits.rivals.measure import Tell, base_result, retention, scores
from kdpo_daemon.bench.edits.rivals.model import Model
from kdpo_daemon.bench.edits.rivals.product import Product
from kdpo_daemon.bench.edits.rivals.prompting import Prompting
from kdpo_daemon.bench.edits.rivals.released import Released
from kdpo_daemon.bench.edits.settings import BASE, RIVALS, rival_of
from kdpo_daemon.errors import TuningError

_EDITORS: dict[str, Callable[[Bench, Any], Editor]] = {
    "none": lambda bench, _: Editor(bench),
    "prompt": Prompting,
    "lora-ce": Lora,
    "lora-dpo": LoraDpo,
    "adalora": AdaLora,
    "ft-m": OneByOne,
    "ft-l": FromTheLastPlace,
    "locft-bf": BreadthFirst,
    "kdpo-released": Released,
    "rome": Rome,
    "memit": Memit,
    "alphaedit": AlphaEdit,
    "kdpo": Product,
}


def run(work: Work, name: str, tell: Tell) -> None:
    """Do what is left of one rival, or ask the base model if that is what `name` says."""
    plan = work.plan()
    if plan.threads:
        torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    model = Model(plan.model_dir)
    if name == BASE:
        work.put_base(base_result(model, plan, tell))
    else:
        _run_rival(work, name, plan, model, tell)


def _run_rival(work: Work, name: str, plan: Plan, model: Model, tell: Tell) -> None:
    base = work.base()
    if base is None:
        raise TuningError("the base model was not asked", subject=str(work.directory))
    bench = Bench(plan, model, work.of(name), partial(tell, "editing"))
    kind = rival_of(name)
    editor = _EDITORS[kind](bench, settings_of(work, name, RIVALS[kind]).settings)
    done = len(work.batches(name))
    if done:
        editor.load(work.state(name, done))
    every = batches(plan.records, plan.batch)
    for number in range(done + 1, len(every) + 1):
        result = _batch(editor, every[:number], work.state(name, number), tell)
        work.put_batch(name, result)
    work.put_scores(name, scores(model, plan, base, editor.asked, tell))


def _batch(
    editor: Editor, taught: Sequence[Sequence[Record]], state: Path, tell: Tell
) -> BatchResult:
    """Teach the last batch, save the state, and ask for all facts so far."""
    *earlier, batch = taught
    plan, number = editor.bench.plan, len(taught)
    before = [one for each in earlier for one in each]
    # the same whether the run was cut off before this batch or not
    torch.manual_seed(plan.seed + number)
    memory.reset_peak()
    began = time.perf_counter()
    refused = editor.edit(batch, before)
    seconds = time.perf_counter() - began
    child, child_gpu = editor.peak_mb(), editor.peak_gpu_mb()
    peak = memory.peak_mb() if child is None else child
    gpu = memory.peak_gpu_mb() if child_gpu is None else child_gpu
    _save(editor, state)
    kept = retention(editor.model, plan, taught, editor.asked, tell)
    return BatchResult(number, len(batch), seconds, peak, gpu, kept, refused)


def _save(editor: Editor, state: Path) -> None:
    """Save into a folder that is whole or not there."""
    draft = state.with_suffix(".draft")
    for folder in (draft, state):
        shutil.rmtree(folder, ignore_errors=True)
    draft.mkdir(parents=True)
    editor.save(draft)
    draft.rename(state)
