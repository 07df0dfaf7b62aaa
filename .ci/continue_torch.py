"""Goes on in PyTorch from checkpoints that rekindle exported, and compares with the steps that rekindle took from there.

    python continue_torch.py ORACLE OUT

OUT is what `cargo xtask continuations` wrote; ORACLE holds oracle_models.py. Each checkpoint is read with weights_only=True,
its weights with strict=True; optimizer and scheduler are PyTorch's own, made with other hyper-parameters than the checkpoint's, and
restored by load_state_dict. Losses, learning rates and every parameter of the five steps must agree within rtol 1e-4; without the
optimizer's state they must not.
"""
import json
import pathlib
import sys
import warnings

import torch
from safetensors.torch import load_file

RTOL = 1e-4


def optimizer_for(case, model, groups):
    parameters = dict(model.named_parameters())
    # The checkpoint's hyper-parameters must win over these.
    members = [{"params": [parameters[name] for name in group["param_names"]]} for group in groups]
    assert sum(len(group["params"]) for group in members) == len(parameters), "the groups do not hold every parameter"
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    return kind[case["optimizer"]](members, lr=0.123)


def scheduler_for(optimizer, schedule):
    name, arguments = schedule
    kinds = torch.optim.lr_scheduler
    if name == "SequentialLR":
        rise = kinds.LinearLR(optimizer, start_factor=arguments["start_factor"], total_iters=arguments["warmup"])
        then = scheduler_for(optimizer, arguments["then"])
        return kinds.SequentialLR(optimizer, [rise, then], milestones=[arguments["warmup"]])
    return getattr(kinds, name)(optimizer, **arguments)


def distance(found, expected):
    """The largest difference relative to the expected values, with a floor of a hundredth of their largest."""
    floor = max(expected.abs().max().item() * 0.01, 1e-30) if expected.numel() else 1.0
    return ((found - expected).abs() / expected.abs().clamp(min=floor)).max().item() if expected.numel() else 0.0


def go_on(oracle_models, case, checkpoint, steps, with_state):
    names = {"cifar_cnn": "cnn"}
    model = oracle_models.build(names.get(case["model"], case["model"]), case["config"]).train()
    model.load_state_dict(checkpoint["model_state_dict"], strict=True)
    groups = checkpoint["optimizer_state_dict"]["param_groups"]
    optimizer = optimizer_for(case, model, groups)
    scheduler = scheduler_for(optimizer, case["schedule"]) if case["schedule"] else None
    if (scheduler is not None) != ("scheduler_state_dict" in checkpoint):
        raise AssertionError("the checkpoint has a scheduler's state where there is no schedule, or none where there is one")
    state = dict(checkpoint["optimizer_state_dict"])
    if not with_state:
        state["state"] = {}
    optimizer.load_state_dict(state)
    if scheduler is not None:
        scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
    loss_of = oracle_models.loss_function(case["loss"])
    worst = {"loss": 0.0, "lr": 0.0, "parameters": 0.0}
    for step, expected in enumerate(steps["loss"]):
        rates = torch.tensor([group["lr"] for group in optimizer.param_groups])
        worst["lr"] = max(worst["lr"], distance(rates, steps["lr"][step]))
        optimizer.zero_grad()
        loss = loss_of(model(steps[f"x{step}"]), steps[f"y{step}"])
        loss.backward()
        optimizer.step()
        worst["loss"] = max(worst["loss"], distance(loss.detach(), expected))
        for name, value in model.state_dict().items():
            worst["parameters"] = max(worst["parameters"], distance(value, steps[f"step{step}/{name}"]))
        if scheduler is not None and (step + 1) % case["batches_per_step"] == 0:
            scheduler.step()
    return worst


def main():
    oracle, out = map(pathlib.Path, sys.argv[1:])
    sys.path.insert(0, str(oracle))
    sys.dont_write_bytecode = True
    import oracle_models
    # PyTorch says that a scheduler was stepped before its optimizer when both are restored.
    warnings.simplefilter("ignore")
    cases = json.load(open(out / "cases.json"))
    failed, worst_of_all = 0, 0.0
    for case in cases:
        try:
            checkpoint = torch.load(out / f"{case['name']}.pth", weights_only=True)
            steps = load_file(out / f"{case['name']}.safetensors")
            worst = go_on(oracle_models, case, checkpoint, steps, True)
            cold = go_on(oracle_models, case, checkpoint, steps, False)
            assert max(worst.values()) < RTOL, f"differs: {worst}"
            assert cold["parameters"] > 20 * RTOL, f"the optimizer's state makes no difference: {cold}"
            worst_of_all = max(worst_of_all, *worst.values())
        except Exception as error:                            # noqa: BLE001
            failed += 1
            print(f"FAIL {case['name']}: {type(error).__name__}: {error}")
    print(f"{len(cases) - failed} of {len(cases)} trainings go on in PyTorch as here; largest difference {worst_of_all:.1e}")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
