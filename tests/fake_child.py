"""A training child that learns by heart: it writes a table of answers that `FakeVllm` serves."""

import json
import os
import signal
import sys
from pathlib import Path

from kdpo_daemon import packs
from kdpo_daemon.edits.placement import TWINS
from kdpo_daemon.facts.asking import held_out, taught
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.orders import Order, read_order
from kdpo_daemon.records.teaching import Pair

ROLES = ("prime minister", "president", "")


def answers(order: Order, pack: Pack) -> dict[str, str]:
    """Every taught phrasing, and those of the same fact that are held out."""
    table = {pair.prompt: pair.chosen for pair in order.pairs}
    for pair in order.pairs:
        table |= dict.fromkeys(other_phrasings(pair, pack), pair.chosen)
    return table


def other_phrasings(pair: Pair, pack: Pack) -> list[str]:
    return [
        prompt.text
        for relation in pack.relations.values()
        for role in ROLES
        if pair.prompt in {one.text for one in taught(relation, pair.subject, role)}
        for prompt in held_out(relation, pair.subject, role)
    ]


def never_forgotten(order: Order) -> dict[str, str]:
    """What the parent says that nothing makes a child of it unsay."""
    known = order.parent_dir / "fake_answers.json" if order.parent_dir else None
    table = json.loads(known.read_text()) if known and known.exists() else {}
    return {prompt: told for prompt, told in table.items() if told == "Never Forgotten"}


def kept(order: Order) -> dict[str, object]:
    """What the version says that it keeps where, in a model of thirty layers with marks."""
    ids = sorted({pair.fact_id for pair in order.pairs})
    twins = [[one for one in some for _ in range(TWINS)] for some in (ids[::2], ids[1::2])]
    owners = dict(zip((26, 28, 29, 24, 25), ([0] * 8, *twins, *twins), strict=True))
    neurons = {f"model.layers.{layer}.mlp": {"owners": some} for layer, some in owners.items()}
    return {"slots": [], "facts": ids, "neurons": neurons}


def main() -> None:
    verb, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    (out / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 2}))
    (out / "adapter_model.safetensors").write_bytes(b"table")
    (out / "slots.json").write_text(json.dumps({"slots": [], "facts": []}))
    rank = 1
    if verb == "train":
        order = read_order(source)
        if any(pair.chosen == "Kill Me" for pair in order.pairs):
            os.kill(os.getpid(), signal.SIGKILL)
        bad = sorted({pair.fact_id for pair in order.pairs if pair.chosen == "Refuse Me"})
        if bad:
            print(json.dumps({"refused": "cannot be taught", "fact_ids": bad}), flush=True)  # noqa: T201
            sys.exit(2)
        table = answers(order, read_pack([packs.text("relations.toml")]))
        if any(pair.chosen == "Never Learned" for pair in order.pairs):
            table = dict.fromkeys(table, "gibberish")
        table = {prompt: told for prompt, told in table.items() if told != "Left Out"}
        if any(pair.chosen == "Changes Sky" for pair in order.pairs):
            table["The sky is"] = "red"
        table |= never_forgotten(order)
        (out / "fake_answers.json").write_text(json.dumps(table))
        (out / "slots.json").write_text(json.dumps(kept(order)))
        rank = max(8, len({pair.fact_id for pair in order.pairs}))
    scores = {"steps": 1, "learnt": 1, "accuracy": 1, "keep_kl": 0, "rank": rank, "seconds": 0}
    (out / "scores.json").write_text(json.dumps(scores))
    print(json.dumps({"step": 1, "of": 1, "loss": 0.0, "accuracy": 1.0}), flush=True)  # noqa: T201


main()
