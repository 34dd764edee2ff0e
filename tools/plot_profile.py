#!/usr/bin/env python3
"""plot_profile.py PROFILE.json OUT.svg [--what decode|prompt] [--match TEXT]: bars of the output of `hadal bench profile --json`. For each phase
the time measured and, inside it, the least time that its bytes and operations need at the limits of the same run. Rows whose name has TEXT;
they must be of one case."""
import argparse, html, json, sys

WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 820, 22, 12, 150, 150, 62
MEASURED, LIMIT, TEXT = "#b8c9dc", "#2f5d8a", "#222222"
LABELS = {"norms": "norms, rope, router", "projections": "attention: linears", "attention": "attention: core", "feed_forward": "dense layers",
          "shared_experts": "shared experts", "other": "between phases"}


def cases(report, what, match):
    """{case: [(phase, row)]}, the row for all included."""
    found = {}
    for row in report["rows"]:
        head, _, case = row["name"].partition(" ")
        kind, _, phase = head.partition("/")
        if kind == what and match in case:
            found.setdefault(case, []).append((phase, row))
    return found


def text(x, y, words, size=13, anchor="start", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{TEXT}">{html.escape(words)}</text>'


def bar(y, phase, row, scale, total):
    ms, limit = row["median"], min(row["limit"], row["median"])
    parts = [text(LEFT - 8, y + 16, LABELS.get(phase, phase), anchor="end"),
             f'<rect x="{LEFT}" y="{y}" width="{ms * scale:.1f}" height="{BAR}" fill="{MEASURED}"/>',
             f'<rect x="{LEFT}" y="{y}" width="{limit * scale:.1f}" height="{BAR}" fill="{LIMIT}"/>',
             text(LEFT + ms * scale + 6, y + 16, f"{ms:.3g} ms, {100 * ms / total:.0f} %")]
    return "\n".join(parts)


def svg(what, case, rows, machine):
    total = next(row for phase, row in rows if phase == "all")["median"]
    phases = sorted(((p, r) for p, r in rows if p != "all"), key=lambda pair: -pair[1]["median"])
    phases = [(p, r) for p, r in phases if r["median"] >= 0.001 * total]
    scale = (WIDTH - LEFT - RIGHT) / phases[0][1]["median"]
    height = TOP + len(phases) * (BAR + GAP) + 8
    unit = "a step" if what == "decode" else "a prompt"
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
             text(8, 20, f"{what} {case}: {total:.4g} ms {unit}", 14, weight="bold"),
             text(8, 40, f"{machine['processor']}, {machine['cores']} cores. Light: measured; dark: the limit in the same run.", 12)]
    lines += [bar(TOP + i * (BAR + GAP), phase, row, scale, total) for i, (phase, row) in enumerate(phases)]
    return "\n".join(lines + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile")
    parser.add_argument("out")
    parser.add_argument("--what", choices=("decode", "prompt"), default="decode")
    parser.add_argument("--match", default="")
    args = parser.parse_args()
    with open(args.profile, encoding="utf-8") as file:
        report = json.load(file)
    if report.get("benchmark") != "profile":
        sys.exit(f"{args.profile}: is not an output of `hadal bench profile --json`")
    found = cases(report, args.what, args.match)
    if len(found) != 1:
        sys.exit(f"{args.profile}: {len(found)} cases of {args.what} have \"{args.match}\" in their names; one was expected: {', '.join(found) or 'none'}")
    case, rows = next(iter(found.items()))
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(svg(args.what, case, rows, report["machine"]))


if __name__ == "__main__":
    main()
