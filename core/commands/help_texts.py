"""What --help says behind the options: examples, exit codes, strategies."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = """\
examples:
  shardboard                                         open the panel
  shardboard demo                                    three agents on this machine, a model, a run
  shardboard nodes                                   who is there
  shardboard run digits-cnn --input random:1000 --local 2
  shardboard run model.onnx --strategy pipeline --node 192.168.1.20:7420 --node 192.168.1.21:7420 \\
                 --input inputs.npz --output outputs.npz --verify
  shardboard plan bert-base --strategy "replicate(2) > tensor(2)" --local 4
  shardboard plan resnet50 --strategy pipeline --save plan.json     then edit plan.json, if you like, and
  shardboard run resnet50 --plan plan.json --input random:500
  shardboard bench mobilenetv2 --local 2             every strategy, predicted beside measured

shardboard COMMAND --help tells a command's options.
exit codes: 0 done, 2 bad usage or input, 3 cannot place, 4 the job failed, 130 stopped with Ctrl-C
"""

NODES_EXAMPLES: Final = """\
Memory is what an agent may use (its --memory-limit); threads are those that it computes with, of so many cores; ms is
the round trip of a small message. With --measure, speed 1.00 is this workstation with one thread.

examples:
  shardboard nodes                       who is there, and why somebody is not ready
  shardboard nodes --measure             what they and the links between them can do: plans are predicted by that
"""

PLAN_EXAMPLES: Final = """\
examples:
  shardboard plan resnet50 --local 3                                       the best plan, and why
  shardboard plan resnet50 --local 3 --latency-bound 50                    the fastest that answers within 50 ms
  shardboard plan resnet50 --node pi-1:7420 --node pi-2:7420 --strategy pipeline --save plan.json

exit codes: 0 done, 2 bad usage or input, 3 the plan cannot be placed: a node lacks memory, or it answers too late
"""

RUN_EXAMPLES: Final = """\
examples:
  shardboard run digits-cnn --local 2 --input random:1000
  shardboard run resnet50 --input pictures/ --output classes.csv           on all nodes that discovery finds
  shardboard run model.onnx --plan plan.json --input inputs.npz --output outputs.npz --verify

exit codes: 0 done, 2 bad usage or input, 3 cannot place, and nothing was sent, 4 the job failed
"""

BENCH_EXAMPLES: Final = """\
Error is measured against predicted; idle is the latency of one micro-batch at a time. Efficiency is against the sum of
what each node does alone, speedup against the strategy single.

examples:
  shardboard bench mobilenetv2 --local 2
  shardboard bench resnet50 --strategy single --strategy "replicate(2) > pipeline(2)" --local 4
"""

PAIR_EXAMPLES: Final = """\
The code is what shardboard-agent shows when it starts on the node.

example:
  shardboard pair 192.168.1.20 1234-5678-90
"""

STRATEGIES_HELP: Final = """\
strategies (in quotes, because of the shell):
  single              the whole model on one node
  replicate           the whole model on every node, each takes other items
  pipeline            consecutive layers on each node
  tensor              every layer divided: rows, columns, channels or heads of its parameters
  spatial             every layer divided: rows or columns of the image, positions of a sequence
  "replicate(2) > pipeline(2) > tensor(2)"
                      levels inside levels, the outermost first, each with the number of parts it makes;
                      one of them may leave its number out and gets what is left: "pipeline > tensor(2)"
  "replicate(2) > tensor(2) @ pi-1, pi-2, pi-3, pi-4"
                      with the nodes by name; without names the compiler puts nodes of one machine, and of
                      equal speed, into the same group
"""

NODES_HELP: Final = "without either, the nodes that discovery finds"
