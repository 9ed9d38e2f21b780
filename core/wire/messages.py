"""Every message of protocol version 1, as frozen tagged structs. Encoded with msgpack, decoded strictly.

Control (DEALER -> ROUTER): one frame, ``Envelope``; a reply carries the id of its request; id 0 is unsolicited.
Data (DEALER -> ROUTER): a header frame, then one raw frame for each tensor (or one for a chunk).
"""

from __future__ import annotations

from msgspec import Struct

from core.plan.form import NodeId, Port, Route, Sha256, Shard, ShardId

# ---------------------------------------------------------------- what a node says of itself


class NodeInfo(Struct, frozen=True):
    id: NodeId
    name: str
    version: str
    hostname: str
    system: str
    """"Linux 6.1 x86_64" """
    cpu: str
    cores: int
    """Logical processors of the machine."""
    threads: int
    """Threads that a shard runs on."""
    memory_total: int
    """Bytes."""
    memory_limit: int
    """Bytes this agent may use; equals memory_total when no limit was given."""
    cpu_limit: float
    """0 < share <= 1."""
    link_limit: int
    """Bits per second; 0: unlimited."""
    data_port: int
    engine: str
    """"onnxruntime 1.31.0 CPUExecutionProvider" """
    pinned: int | None = None
    """The one core that the agent is bound to; None: it may use any."""
    own_memory: int = 0
    """Resident bytes of the agent before it holds any shard; 0: not told."""


class ShardLoad(Struct, frozen=True):
    shard: ShardId
    label: str
    busy: float
    """Share of the last interval spent in this shard, 0..1."""
    items_per_s: float
    items: int
    """Items since the shards were loaded."""
    runs: int
    """Micro-batches since then whose outputs were handed on; the three below are of these and no others."""
    seconds: float
    """That they ran."""
    sent: int
    """Bytes of tensors that went to other nodes and the client."""
    received: int
    """Bytes of tensors that came from there."""


class Execution(Struct, frozen=True, array_like=True):
    """One run of one shard, for the stage time line."""

    shard: ShardId
    seq: int
    start: float
    """Unix time, node's clock."""
    seconds: float


class Telemetry(Struct, frozen=True):
    time: float
    """Unix time, node's clock."""
    cpu: float
    """Machine, 0..1."""
    cpu_per_core: tuple[float, ...]
    process_cpu: float
    """This agent, in cores."""
    memory_used: int
    memory_total: int
    process_memory: int
    """Resident bytes of the agent."""
    net_sent_per_s: float
    """Machine, bytes/s over all interfaces but loopback."""
    net_received_per_s: float
    data_sent: int
    """Bytes of tensors sent by this agent since it started."""
    data_received: int
    temperature: float | None
    """Degrees Celsius, the hottest sensor; None where the machine does not tell."""
    power: float | None
    """Watts; None where the machine does not tell."""
    queue: int
    """Micro-batches ready or running on this node."""
    shards: tuple[ShardLoad, ...]
    executions: tuple[Execution, ...]
    """Since the previous telemetry, at most 64."""
    deployment: str
    """Id of the deployment that holds the node, or ""."""
    owner: str
    """Name of the workstation that holds the node, or ""."""


# ---------------------------------------------------------------- control: requests


class Hello(Struct, frozen=True, tag="hello"):
    """First message on a control connection. Answered by Welcome, or by Failure("version")."""

    protocol: int
    version: str
    client_name: str


class Subscribe(Struct, frozen=True, tag="subscribe"):
    """Push Telemetry to this client until it has been silent for 10 s."""

    interval: float = 0.2


class Ping(Struct, frozen=True, tag="ping"):
    pass


class Reserve(Struct, frozen=True, tag="reserve"):
    """Take the node for a deployment. Refused with Failure("owned") while another client's lease is alive, and with
    Failure("memory") when ``memory_bytes`` does not fit."""

    deployment: str
    client_name: str
    memory_bytes: int


class QueryBlobs(Struct, frozen=True, tag="query_blobs"):
    blobs: tuple[Sha256, ...]


class LoadShards(Struct, frozen=True, tag="load"):
    """Replace all shards of this deployment. Answered by Loaded when sessions exist, or Failure."""

    deployment: str
    epoch: int
    shards: tuple[Shard, ...]
    """Only those of this node."""
    routes: tuple[Route, ...]
    """Every route that starts or ends at one of them."""
    placement: dict[int, NodeId]
    """Node of every shard named in routes."""
    peers: dict[NodeId, str]
    """Data endpoint ("tcp://host:port") of every other node in placement."""


class Release(Struct, frozen=True, tag="release"):
    deployment: str


class CancelJob(Struct, frozen=True, tag="cancel_job"):
    """Drop whatever is queued for the job."""

    deployment: str
    job: int


class Measure(Struct, frozen=True, tag="measure"):
    """Time a self-contained graph (no external weights) on this node: ``repeats`` runs on zeros after some that are
    not counted. Refused with Failure("owned") while another workstation's lease is alive."""

    graph: bytes
    inputs: tuple[Port, ...]
    repeats: int
    threads: int = 0
    """0: as many as the node's shards run on; no more than those."""
    seconds: float = 0.0
    """About so long, a few runs at least; 0: all of them."""


class OpenProbe(Struct, frozen=True, tag="open_probe"):
    """Let the nodes ``peers`` measure their links to this one, and this one its links to them, for so many seconds.

    Refused with Failure("owned") while another workstation's lease is alive."""

    probe: str
    """A name that the workstation makes up."""
    peers: tuple[NodeId, ...]
    seconds: float


class ProbeLink(Struct, frozen=True, tag="probe_link"):
    """Measure the link from this node to ``peer``, which may be the node itself. Answered by LinkProbed, or Failure.

    The probe must be open on both nodes. Takes ``seconds`` at most; sizes for which the link is too slow are left out.
    """

    probe: str
    peer: NodeId
    endpoint: str
    """Of its data socket ("tcp://host:port")."""
    sizes: tuple[int, ...]
    """Bytes of the messages of each stream."""
    seconds: float


class CloseProbe(Struct, frozen=True, tag="close_probe"):
    """End a probe, and what is being measured for it."""

    probe: str


class SetLimits(Struct, frozen=True, tag="set_limits"):
    """Slow the node on purpose, for demonstrations. None leaves a limit as it is."""

    cpu_limit: float | None = None
    link_limit: int | None = None


# ---------------------------------------------------------------- control: replies and pushes


class Welcome(Struct, frozen=True, tag="welcome"):
    protocol: int
    info: NodeInfo


class Done(Struct, frozen=True, tag="done"):
    pass


class BlobOffsets(Struct, frozen=True, tag="blob_offsets"):
    """Bytes already held of each blob asked for, in order; -1: whole."""

    offsets: tuple[int, ...]


class Loaded(Struct, frozen=True, tag="loaded"):
    seconds: float
    process_memory: int


class Measured(Struct, frozen=True, tag="measured"):
    seconds: float
    """Median of all runs, by the wall's clock."""
    quiet_seconds: float = 0.0
    """Of an undisturbed run: other programs hardly show in it."""
    free_memory: int = 0
    """Bytes that shards may take: within the node's limit, and free on its machine."""
    held: float = 1.0
    """Part of the time in which the processor was there for the runs, 0..1: less where other programs, or a quota, kept
    them from it."""


class LinkSample(Struct, frozen=True, array_like=True):
    """A stream of messages of one size."""

    nbytes: int
    """Of each message."""
    bytes_per_s: float


class LinkProbed(Struct, frozen=True, tag="link_probed"):
    round_trip_s: float
    """Of a small message and its answer, the work at both ends included."""
    samples: tuple[LinkSample, ...]
    """By size; at least one."""


class Failure(Struct, frozen=True, tag="failure"):
    """``code``: version | untrusted | owned | memory | blob | model | shard | link | field | busy | internal."""

    code: str
    message: str


class TelemetryPush(Struct, frozen=True, tag="telemetry"):
    telemetry: Telemetry


class InfoPush(Struct, frozen=True, tag="info"):
    """The node's own description changed (limits)."""

    info: NodeInfo


Request = (
    Hello
    | Subscribe
    | Ping
    | Reserve
    | QueryBlobs
    | LoadShards
    | Release
    | CancelJob
    | Measure
    | OpenProbe
    | ProbeLink
    | CloseProbe
    | SetLimits
)
Reply = Welcome | Done | BlobOffsets | Loaded | Measured | LinkProbed | Failure | TelemetryPush | InfoPush


class RequestEnvelope(Struct, frozen=True, array_like=True):
    id: int
    body: Request


class ReplyEnvelope(Struct, frozen=True, array_like=True):
    id: int
    body: Reply


# ---------------------------------------------------------------- data


class Attach(Struct, frozen=True, array_like=True, tag="a"):
    """The client takes delivery of a deployment's results on this connection. Answered by Attached."""

    deployment: str
    epoch: int


class Attached(Struct, frozen=True, array_like=True, tag="b"):
    deployment: str
    epoch: int


class TensorMeta(Struct, frozen=True, array_like=True):
    name: str
    """Name at the consumer."""
    dtype: str
    shape: tuple[int, ...]
    codec: str


class Tensors(Struct, frozen=True, array_like=True, tag="t"):
    """Tensors of one micro-batch for one consumer; a raw frame each follows."""

    deployment: str
    epoch: int
    job: int
    seq: int
    producer: ShardId
    consumer: ShardId
    tensors: tuple[TensorMeta, ...]


class ShardFailed(Struct, frozen=True, array_like=True, tag="f"):
    deployment: str
    epoch: int
    job: int
    seq: int
    shard: ShardId
    code: str
    message: str


class Chunk(Struct, frozen=True, array_like=True, tag="c"):
    """A piece of a blob; one raw frame follows."""

    blob: Sha256
    nbytes: int
    """Of the whole blob."""
    offset: int


class ChunkAck(Struct, frozen=True, array_like=True, tag="k"):
    """``received`` bytes are held now; -1: whole and its hash is right. ``error`` is "" or why the blob was dropped."""

    blob: Sha256
    received: int
    error: str


class Probe(Struct, frozen=True, array_like=True, tag="p"):
    """Something to be acknowledged, to measure the link; one raw frame follows."""

    probe: str
    number: int
    answer: int = 0
    """Bytes that are to come back with the acknowledgement: for the workstation that opened the probe only."""


class ProbeAck(Struct, frozen=True, array_like=True, tag="q"):
    """One raw frame of the bytes asked for follows, if any were."""

    probe: str
    number: int


DataHeader = Attach | Attached | Tensors | ShardFailed | Chunk | ChunkAck | Probe | ProbeAck


# ---------------------------------------------------------------- pairing (its own socket and key, see core.wire.trust)


class PairRequest(Struct, frozen=True, tag="pair"):
    protocol: int
    client_name: str
    client_key: str
    """Z85 public key."""


class PairReply(Struct, frozen=True, tag="paired"):
    id: NodeId
    name: str
    control_port: int
    version: str
    protocol: int
