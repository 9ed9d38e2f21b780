"""shardboard doctor: why nodes do not meet. Goes from here outwards and names the hop that fails, with the mend."""

from __future__ import annotations

import argparse
from typing import Final

from core.commands.doctor_here import check_keys, check_multicast, check_network, check_packages
from core.commands.doctor_nodes import check_nodes
from core.commands.findings import Finding, Verdict

NOT_WELL: Final = 3
_MARKS: Final = {Verdict.GOOD: "ok  ", Verdict.NOTE: "note", Verdict.BAD: "FAIL"}


def run(options: argparse.Namespace) -> int:
    findings: list[Finding] = []
    for check in (check_packages, check_keys, check_network, check_multicast):
        findings += _told(check())
    findings += _told(check_nodes(options.wait, options.node))
    bad = [finding for finding in findings if finding.verdict is Verdict.BAD]
    if not bad:
        print("\nAll is well.")
        return 0
    print(f"\n{len(bad)} of {len(findings)} checks failed; begin with the first: {bad[0].step}.")
    return NOT_WELL


def _told(findings: list[Finding]) -> list[Finding]:
    """Printed at once: some checks take seconds."""
    for finding in findings:
        print(f"{_MARKS[finding.verdict]}  {finding.step}: {finding.words}", flush=True)
        if finding.mend:
            print(f"      -> {finding.mend}", flush=True)
    return findings
