"""Which rank holds up the others, by recorders' dumps: made ones, and those of real ranks over gloo."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from modelyard.adapters.ray.flight_recorder import Lag, Recorded, Waiting, lagging, read, switch_on

ALL, TENSOR = "0", "7"
MEMBERS = {ALL: (0, 1, 2, 3), TENSOR: (2, 3)}


def entry(number, group, sequence, state="scheduled", retired=False, name="all_reduce", peer=None):
    described = {ALL: "default_pg", TENSOR: "TENSOR_MODEL_PARALLEL_GROUP"}[group]
    return {
        "record_id": number,
        "process_group": [group, described],
        "collective_seq_id": sequence,
        "p2p_seq_id": 0 if peer is None else 1,
        "is_p2p": peer is not None,
        "profiling_name": f"nccl:{name}" + ("" if peer is None else f" {peer}"),
        "state": state,
        "retired": retired,
    }


def dump(*entries):
    return json.loads(json.dumps({"version": "2.10", "entries": entries, "pg_config": {}, "pg_status": {}}))


def recorder(rank, *entries, members=MEMBERS):
    return read(dump(*entries), members, rank)


def test_read_finds_the_oldest_operation_that_has_not_ended():
    found = recorder(
        2,
        entry(4, TENSOR, 8),  # a part of a batch of sends has no state of its own: what follows it has ended
        entry(5, TENSOR, 9, "completed", retired=True),
        entry(6, ALL, 3, "completed"),
        entry(7, TENSOR, 10, "started", name="_all_gather_base"),
        entry(8, ALL, 4),
        entry(9, TENSOR, 11),
    )
    assert found.reached == {TENSOR: (11, False), ALL: (4, False)}
    assert found.waiting == Waiting(TENSOR, "TENSOR_MODEL_PARALLEL_GROUP", "_all_gather_base", (10, True), (3,))


@pytest.mark.parametrize("entries", [(), (entry(0, ALL, 1, "completed"),), (entry(0, ALL, 1, retired=True),)])
def test_read_of_a_rank_that_waits_for_none_says_so(entries):
    assert recorder(0, *entries).waiting is None


def test_lagging_names_the_rank_that_has_not_queued_the_collective():
    behind = recorder(1, entry(5, ALL, 41, "completed", retired=True))
    others = {rank: recorder(rank, entry(5, ALL, 41, "completed", retired=True), entry(6, ALL, 42)) for rank in (0, 2, 3)}
    assert lagging({1: behind, **others}) == Lag(1, "has not come to all_reduce 42 of group 0 (default_pg), where ranks 0, 2, 3 wait")


def test_lagging_names_the_rank_whose_device_has_not_begun_what_all_have_queued():
    ranks = {rank: recorder(rank, entry(6, ALL, 42, "scheduled" if rank == 3 else "started")) for rank in range(4)}
    assert lagging(ranks) == Lag(3, "has queued but not begun all_reduce 42 of group 0 (default_pg), where ranks 0, 1, 2 wait")


def test_lagging_follows_whom_each_waits_for_through_the_groups():
    """Ranks 0 and 1 wait for 2 in the group of all; 2 waits for 3 in theirs."""
    ranks = {rank: recorder(rank, entry(6, ALL, 42)) for rank in (0, 1)}
    ranks |= {2: recorder(2, entry(9, TENSOR, 5, name="broadcast")), 3: recorder(3, entry(8, TENSOR, 4, retired=True))}
    assert lagging(ranks) == Lag(3, "has not come to broadcast 5 of group 7 (TENSOR_MODEL_PARALLEL_GROUP), where rank 2 waits")


def test_lagging_follows_sends_and_receives_of_a_pipeline():
    members = {ALL: (0, 1), TENSOR: (4, 6)}
    receives = recorder(4, entry(3, TENSOR, 0, name="recv", peer="0<-1"), members=members)
    computes = recorder(6, entry(2, TENSOR, 0, "completed", name="recv", peer="1<-0"), members=members)
    assert lagging({4: receives, 6: computes}) == Lag(
        6, "has not come to recv of group 7 (TENSOR_MODEL_PARALLEL_GROUP), where rank 4 waits"
    )


@pytest.mark.parametrize(
    "ranks",
    [
        {},
        {0: recorder(0, entry(6, ALL, 42))},  # the others have not said
        {rank: recorder(rank, entry(6, ALL, 42, "started")) for rank in range(4)},  # the network, or all of them
        {rank: recorder(rank, entry(6, ALL, 42, "completed")) for rank in range(4)},
        {0: recorder(0, entry(6, ALL, 42), members={ALL: (0, 1)}), 1: Recorded({ALL: (42, False)}, None)},
        {2: recorder(2, entry(1, TENSOR, 0, name="send", peer="0->1")), 3: recorder(3, entry(1, TENSOR, 0, name="recv", peer="1<-0"))},
        {0: recorder(0, entry(6, ALL, 42), members={}), 1: recorder(1, members={})},  # nobody knows the group's ranks
    ],
)
def test_lagging_blames_nobody_where_the_recorders_show_nobody_behind(ranks):
    assert lagging(ranks) is None


def test_lagging_does_not_run_round_in_a_circle():
    ranks = {
        2: Recorded({ALL: (4, False), TENSOR: (1, False)}, Waiting(ALL, "all", "all_reduce", (4, False), (3,))),
        3: Recorded({ALL: (3, False), TENSOR: (2, False)}, Waiting(TENSOR, "two", "all_reduce", (2, False), (2,))),
    }
    assert lagging(ranks) is None


def test_recorder_is_switched_on_unless_the_environment_speaks(monkeypatch):
    for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DUMP_ON_TIMEOUT"):
        monkeypatch.setenv(name, "")  # put back what switch_on sets
        monkeypatch.delenv(name)
    switch_on("gloo")
    assert os.environ["TORCH_FR_BUFFER_SIZE"] == "2000"
    assert "TORCH_NCCL_DUMP_ON_TIMEOUT" not in os.environ
    switch_on("nccl")
    assert os.environ["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
    monkeypatch.delenv("TORCH_FR_BUFFER_SIZE")
    monkeypatch.setenv("TORCH_NCCL_TRACE_BUFFER_SIZE", "0")
    switch_on("nccl")
    assert "TORCH_FR_BUFFER_SIZE" not in os.environ


RANK = """
import json, sys, threading, time
from modelyard.adapters.ray import flight_recorder
import torch, torch.distributed as dist
rank, directory = int(sys.argv[1]), sys.argv[2]
assert flight_recorder.recorded() is None
flight_recorder.switch_on("gloo")
dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=3)
pair = dist.new_group([1, 2], group_desc="PAIR")
dist.all_reduce(torch.ones(2))
store = dist.FileStore(f"{directory}/store", 3)
group, position = (pair, (1, False)) if rank == 1 else (None, (2, False))
def stands():
    waiting = flight_recorder.recorded().waiting  # a collective that has ended is told of a moment later
    return waiting is None if rank == 2 else waiting is not None and waiting.position == position and (waiting.described == "PAIR") == (rank == 1)
if rank != 2:
    threading.Thread(target=lambda: dist.all_reduce(torch.ones(2), group=group), daemon=True).start()
while not stands():
    time.sleep(0.01)
print(repr(flight_recorder.recorded()), flush=True)
store.set(str(rank), "said")
store.wait(["0", "1", "2"])
import os
os._exit(0)
"""


def test_recorders_of_real_ranks_name_the_one_that_the_others_wait_for(tmp_path):
    """Rank 0 waits for all, 1 for 2 in a group of theirs, 2 for nobody."""
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(RANK)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(3)
    ]
    said = [process.communicate(timeout=200) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0, 0], said
    recorders = {rank: eval(out, {"Recorded": Recorded, "Waiting": Waiting}) for rank, (out, _) in enumerate(said)}
    assert recorders[2].waiting is None
    assert recorders[1].waiting.described == "PAIR"
    assert recorders[1].waiting.others == (2,)
    lag = lagging(recorders)
    assert lag is not None
    assert lag.rank == 2
    assert "all_reduce 1 of group" in lag.text
    assert lag.text.endswith("(PAIR), where rank 1 waits")
