"""    python -m train.table --out DIR: the tables of README.md, from `results.json` of both data sets."""
import argparse
import json
import os

from .recipes import SPECS


def number(n):
    return f"{n / 1e6:.2f} M" if n >= 1e6 else f"{n / 1e3:.0f} k"


def percent(x):
    return f"{100 * x:.2f}"


def table(rows):
    base = rows["base"]["macs"]
    out = ["| variant | parameters | MACs | of base | file kB | top-1 % | without one branch % (of the classes still present) |",
           "|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        size = row["bytes"] / 1000
        missing = ""
        if row["kind"] == "semantic":
            missing = " / ".join(f"{100 * a:.1f} ({100 * b:.1f})" for a, b in zip(
                row["accuracy_without_branch"], row["accuracy_without_branch_on_classes_present"]))
            slowest = max(p["macs"] for p in row["parts"])
            cost = f"{number(slowest)} a branch, {number(row['macs'])} in all"
            share = f"{100 * slowest / base:.0f} % / {100 * row['macs'] / base:.0f} %"
        else:
            cost, share = number(row["macs"]), f"{100 * row['macs'] / base:.0f} %"
        note = " (provisional)" if "provisional" in row else ""
        out.append(f"| {name}{note} | {number(row['parameters'])} | {cost} | {share} | {size:.0f} | {percent(row['accuracy'])} | {missing} |")
    return out


def exits(row):
    out = ["| output | MACs up to it | head's share of its stage | top-1 % | temperature | calibration error |", "|---|---|---|---|---|---|"]
    for e in row["exits"]:
        share = f"{100 * e['share_of_stage']:.1f} %" if "share_of_stage" in e else ""
        out.append(f"| {e['output']} | {number(e['macs'])} ({100 * e['macs'] / row['macs']:.0f} %) | {share} | {percent(e['accuracy'])} | {e['temperature']:.2f} | {e['calibration_error']:.3f} |")
    early = row["early"]
    out += ["", f"One threshold of {early['threshold']:.2f} for all exits, chosen on the hold-out (loss and two standard errors below half a point): "
            f"{percent(early['accuracy'])} % of the test pictures right at {100 * (1 - early['saved']):.0f} % of the MACs "
            f"(answers by output: {', '.join(f'{100 * s:.0f} %' for s in early['share_per_output'])})."]
    return out


def classes(rows, labels):
    out = ["| variant | groups | score for a missing class |", "|---|---|---|"]
    for name, row in rows.items():
        if row["kind"] == "semantic":
            groups = "; ".join(", ".join(labels[c] for c in p["classes"]) for p in row["parts"])
            out.append(f"| {name} | {groups} | {row['missing_score']:.2f} |")
    return out if len(out) > 2 else []


def main():
    parser = argparse.ArgumentParser(prog="python -m train.table")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    for name, spec in SPECS.items():
        path = f"{args.out}/export/{name}/results.json"
        if os.path.exists(path):
            with open(path) as file:
                rows = json.load(file)
            print("\n".join([f"### {name}", "", *table(rows), "", *exits(rows["base"]), "", *classes(rows, spec.labels), ""]))


if __name__ == "__main__":
    main()
