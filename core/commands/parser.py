"""The arguments of every subcommand. Imports nothing heavy: parsing must be instant."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final, NoReturn

from core import __version__
from core.cluster.reach import parse_address
from core.commands import help_texts as texts
from core.commands.shares import parse_shares
from core.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """A value that is missing is told by what it should be."""
        where, _, what = message.partition(": ")
        for action in self._actions:
            if what == "expected one argument" and where == f"argument {'/'.join(action.option_strings)}":
                wanted = f"{action.option_strings[-1]} {action.metavar}"
                message = f"{where}: its value is missing: {wanted} ({str(action.help).partition(' (default')[0]})"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """``options.module`` names the module of ``core.commands`` to run."""
    parser = _Parser(
        prog="shardboard",
        description="Splits an ONNX model over the machines of a LAN, runs it, and shows how it goes.",
        epilog=texts.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shardboard {__version__}")
    parser.set_defaults(module="panel")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    _add_demo(_command(commands, "demo", "show everything on this machine alone"))
    _add_nodes(_command(commands, "nodes", "list the nodes that can be found"))
    _add_plan(_command(commands, "plan", "work out a split and predict how fast it is"))
    _add_run(_command(commands, "run", "run inputs through a model on several nodes"))
    _add_bench(_command(commands, "bench", "every strategy on the same inputs: predicted beside measured"))
    _add_doctor(_command(commands, "doctor", "find out why nodes do not meet"))
    _add_pair(_command(commands, "pair", "make a node trust this workstation, with the code it shows"))
    return parser


def _command(commands: argparse._SubParsersAction[_Parser], name: str, words: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.", allow_abbrev=False)
    parser.set_defaults(module=name)
    return parser


def _tell(parser: argparse.ArgumentParser, *paragraphs: str) -> None:
    """Behind the options, as it is written."""
    parser.epilog = "\n".join(paragraphs)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nodes", type=_whole("number of nodes", 1, 16), default=3, metavar="N",
        help="agents to start on this machine (default: 3)",
    )  # fmt: skip
    parser.add_argument("--headless", action="store_true", help="without a window; also when there is no display")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="how long the run takes (default: 8)")
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="save a picture of each page there")
    _add_json(parser)


def _add_nodes(parser: argparse.ArgumentParser) -> None:
    _tell(parser, texts.NODES_EXAMPLES)
    _add_wait(parser, 3.0)
    parser.add_argument("--measure", action="store_true", help="measure all ready nodes, and the links between them")
    _add_json(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_saved_or_strategy(parser)
    _add_division(parser)
    _tell(parser, texts.STRATEGIES_HELP, texts.PLAN_EXAMPLES)
    _add_node_choice(parser)
    _add_batch(parser)
    _add_profile_on(parser)
    _add_objective(parser)
    parser.add_argument(
        "--save", type=Path, metavar="P",
        help="write the plan to a file (JSON, made to be read and edited), for --plan and for the panel",
    )  # fmt: skip
    _add_json(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_saved_or_strategy(parser)
    _add_division(parser)
    _tell(parser, texts.STRATEGIES_HELP, texts.RUN_EXAMPLES)
    _add_node_choice(parser)
    parser.add_argument(
        "--input", required=True, metavar="X",
        help=".npz keyed by the model's input names, .npy, a folder of images or arrays, or random:N (N items)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="Y", help="write the outputs to Y.npz, or the top-k to Y.csv")
    _add_batch(parser)
    _add_profile_on(parser)
    _add_objective(parser)
    parser.add_argument(
        "--in-flight", type=_whole("number of micro-batches", 1, 1024), metavar="K",
        help="micro-batches under way at a time in each replica (default: two a stage)",
    )  # fmt: skip
    parser.add_argument(
        "--repeat", type=_whole("number of times", 1, 1_000_000), default=1, metavar="R",
        help="read the input R times (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--verify", action="store_true", help="compare the outputs with the whole model's on this machine"
    )
    parser.add_argument(
        "--anyway", action="store_true",
        help="also where a node is predicted to lack memory, or the answer to come too late: without it nothing is "
        "sent then. A node still refuses what it cannot load",
    )  # fmt: skip
    _add_json(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--strategy", action="append", default=[], metavar="S",
        help="compare this one (repeat); default: each strategy, and nestings where the number of nodes allows them",
    )  # fmt: skip
    _add_division(parser)
    _tell(parser, texts.STRATEGIES_HELP, texts.BENCH_EXAMPLES)
    _add_node_choice(parser)
    _add_batch(parser)
    _add_profile_on(parser)
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, metavar="S", help="how long each strategy runs, about (default: 3)"
    )
    _add_json(parser)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    _tell(parser, "exit codes: 0 all is well, 3 a check failed: what to do is said with it\n")
    parser.add_argument(
        "--node",
        type=_address,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="also look at this address (repeat)",
    )
    _add_wait(parser, 4.0)


def _add_pair(parser: argparse.ArgumentParser) -> None:
    _tell(parser, texts.PAIR_EXAMPLES)
    parser.add_argument("address", metavar="HOST[:PORT]", help="the node's address and control port (default: 7420)")
    parser.add_argument("code", metavar="CODE", help="the code that the node shows")
    parser.add_argument(
        "--pairing-port", type=_whole("port", 1, 65535), metavar="PORT", help="default: the control port plus one"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL",
        help="an .onnx file, or a model of the library: digits-cnn, digits-mlp, rnn, lstm, linear-regression, "
        "logistic-regression; and, with random weights, for measuring: resnet50, mobilenetv2, bert-base, gpt2",
    )  # fmt: skip


def _add_saved_or_strategy(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--plan", type=Path, metavar="P",
        help="a plan that shardboard plan --save, or the panel, has written: on its own nodes, on those of the same "
        "names, or on as many others",
    )  # fmt: skip
    _add_strategy(how)


def _add_strategy(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--strategy", metavar="S",
        help="single, replicate, pipeline, tensor, spatial, or levels of them, see below; auto, the default, takes the "
        "best predicted one, on as many of the nodes as it is worth",
    )  # fmt: skip


def _add_division(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tensor-axis", choices=("rows", "columns"),
        help="tensor: divide every layer that can be by input features (rows) or by output features (columns); "
        "default: what is cheaper, layer by layer",
    )  # fmt: skip
    parser.add_argument(
        "--spatial-axis", choices=("rows", "columns"),
        help="spatial: divide the image by rows (of a sequence: its positions) or by columns (default: rows)",
    )  # fmt: skip
    parser.add_argument(
        "--shares", type=_shares, metavar="P,P,...",
        help="tensor, spatial: each node's part of its group's work in per cent, in the order of the nodes; "
        "default: by measured speed",
    )  # fmt: skip


def _add_node_choice(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("nodes", texts.NODES_HELP).add_mutually_exclusive_group()
    where.add_argument(
        "--local", type=_whole("number of agents", 1, 64), metavar="N",
        help="start N throw-away agents on this machine, one thread each; they end with the command",
    )  # fmt: skip
    where.add_argument(
        "--node",
        type=_address,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a node by its address, like pi-1:7420 (repeat); without a port it is 7420",
    )


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch", type=_whole("batch", 1, 65536), metavar="N",
        help="items that travel together, a micro-batch (default: 8 at most, fewer where the input is short, or where "
        "auto finds no plan that fits, or keeps --latency-bound, with so many)",
    )  # fmt: skip


def _add_profile_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile-on", metavar="NODE",
        help="time the model's layers on the node of this name, not on this workstation: where the two differ in kind",
    )  # fmt: skip


def _add_objective(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--objective", type=_objective, default="throughput", metavar="{throughput,latency,memory}",
        help="what auto looks for, and what changes are proposed by: most items a second, least time for one "
        "micro-batch, or least memory on the node that needs most (default: throughput); for most items a second "
        "under a bound of the latency add --latency-bound",
    )  # fmt: skip
    parser.add_argument(
        "--latency-bound", type=_milliseconds, metavar="MS",
        help="only plans that answer within so many milliseconds, like 50: one micro-batch, through idle nodes",
    )  # fmt: skip


def _add_wait(parser: argparse.ArgumentParser, default: float) -> None:
    parser.add_argument(
        "--wait", type=_seconds, default=default, metavar="S", help=f"seconds to look for nodes (default: {default:g})"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


class _Whole:
    """A whole number of something, within bounds; an object so that argparse can show its name."""

    def __init__(self, what: str, lowest: int, highest: int) -> None:
        self._what, self._lowest, self._highest = what, lowest, highest

    def __call__(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and self._lowest <= int(text) <= self._highest):
            raise argparse.ArgumentTypeError(
                f'"{text}" is not a {self._what}; it goes from {self._lowest} to {self._highest}'
            )
        return int(text)


_whole = _Whole


def _address(text: str) -> str:
    try:
        parse_address(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _shares(text: str) -> tuple[float, ...]:
    try:
        return parse_shares(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _objective(text: str) -> str:
    if text not in _OBJECTIVES:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no objective; choose {", ".join(_OBJECTIVES[:-1])} or {_OBJECTIVES[-1]}. For throughput '
            "under a bound of the latency leave it out and give --latency-bound with a number of milliseconds"
        )
    return text


_OBJECTIVES: Final = ("throughput", "latency", "memory")


def _milliseconds(text: str) -> float:
    try:
        milliseconds = float(text.strip().removesuffix("ms"))
    except ValueError:
        milliseconds = -1.0
    if not 0.0 < milliseconds <= 3.6e6:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of milliseconds; it goes up to 3600000')
    return milliseconds


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= 3600.0:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds; it goes up to 3600')
    return seconds
