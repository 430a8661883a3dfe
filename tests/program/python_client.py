"""The client `redis` from PyPI against a tskv daemon: python_client.py HOST PORT PROTOCOL.

Prints "ok" when every reply was the expected one; the first that was not ends it with a traceback.
"""

import math
import sys

import redis


def expect(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def refused(call, text):
    try:
        found = call()
    except redis.ResponseError as error:
        assert text in str(error), f"{text!r} is not in {error!s}"
    else:
        raise AssertionError(f"expected an error, found {found!r}")


def samples(reply):
    """Samples as lists, whichever shape the protocol gives them."""
    return [list(sample) for sample in reply]


def connection(client):
    expect(client.ping(), True)
    expect(client.echo("hi"), "hi")
    expect(client.client_setname("tester"), True)
    expect(client.client_getname(), "tester")
    names = [entry["name"] for entry in client.client_list() if entry["id"] == str(client.client_id())]
    expect(names, ["tester"])
    assert client.info()["redis_version"], "INFO without a version"
    modules = [{str(key): value for key, value in module.items()} for module in client.module_list()]
    assert any(module["name"] == "timeseries" and module["ver"] >= 11200 for module in modules), modules
    expect(client.config_get("save"), {"save": ""})
    assert client.command_count() > 30
    refused(lambda: client.execute_command("NOPE", "a"), "unknown command 'NOPE', with args beginning with: 'a'")


def keys(client):
    value = bytes(range(256)) * 40
    raw = redis.Redis(connection_pool=redis.ConnectionPool(**{**client.connection_pool.connection_kwargs, "decode_responses": False}))
    expect(raw.set(b"\x00\xff binary", value), True)
    expect(raw.get(b"\x00\xff binary"), value)
    expect(raw.delete(b"\x00\xff binary"), 1)
    raw.close()
    expect(client.mset({"a": "1", "b": "2", "z": "3"}), True)
    expect(client.mget("a", "absent", "z"), ["1", None, "3"])
    expect(client.exists("a", "z", "absent"), 2)
    expect(client.set("a", "9", nx=True), None)
    expect(client.set("a", "9", get=True), "1")
    expect(client.type("a"), "string")
    expect(client.strlen("a"), 1)
    expect(client.dbsize(), 3)
    expect(sorted(client.scan_iter("*", count=1)), ["a", "b", "z"])
    expect(client.delete("a", "absent"), 1)
    expect(client.unlink("b", "z"), 2)
    refused(lambda: client.execute_command("GET"), "wrong number of arguments for 'get' command")


def pipelines(client):
    pipeline = client.pipeline(transaction=False)
    for index in range(1000):
        pipeline.set(f"k{index}", str(index))
    for index in range(1000):
        pipeline.get(f"k{index}")
    expect(pipeline.execute(), [True] * 1000 + [str(index) for index in range(1000)])
    pipeline = client.pipeline(transaction=False)
    pipeline.get("k1").execute_command("NOPE").get("k2")
    found = pipeline.execute(raise_on_error=False)
    expect([found[0], found[2]], ["1", "2"])
    assert isinstance(found[1], redis.ResponseError), found
    transaction = client.pipeline(transaction=True)
    transaction.set("k1", "new").get("k1").mget("k1", "k999").delete("k1")
    expect(transaction.execute(), [True, "new", ["new", "999"], 1])


def series(client):
    ts = client.ts()
    expect(ts.create("temperature"), True)
    refused(lambda: ts.create("temperature"), "TSDB: key already exists")
    expect(ts.create("kept", retention_msecs=1000), True)
    expect(ts.madd([("kept", 1000, 1.0), ("kept", 2000, 2.0), ("kept", 3000, 3.0)]), [1000, 2000, 3000])
    expect(samples(ts.range("kept", "-", "+")), [[2000, 2.0], [3000, 3.0]])
    refused(lambda: ts.add("kept", 1999, 1.0), "older than retention")
    expect(ts.alter("kept", retention_msecs=100), True)
    expect(samples(ts.range("kept", "-", "+")), [[3000, 3.0]])
    expect(ts.alter("kept", retention_msecs=0, duplicate_policy="last"), True)
    expect(samples(ts.range("kept", "-", "+")), [[3000, 3.0]])
    refused(lambda: ts.create("named", labels={"a": "b"}), "LABELS")
    expect(ts.add("temperature", 1000, 1.5), 1000)
    refused(lambda: ts.add("temperature", 1000, 2.5), "DUPLICATE_POLICY")
    expect(ts.add("temperature", 1000, 0.1, on_duplicate="last"), 1000)
    assert ts.add("now", "*", 1) > 1_600_000_000_000
    found = ts.madd([("temperature", 2000, 1e300), ("absent", 1, 1), ("temperature", 3000, -5e-324)])
    expect([found[0], found[2]], [2000, 3000])
    assert isinstance(found[1], redis.ResponseError), found
    expect(list(ts.get("temperature")), [3000, -5e-324])
    refused(lambda: ts.get("absent"), "the key does not exist")
    expect(samples(ts.range("temperature", "-", "+")), [[1000, 0.1], [2000, 1e300], [3000, -5e-324]])
    expect(samples(ts.revrange("temperature", 0, 2500, count=1)), [[2000, 1e300]])
    expect(client.type("temperature"), "TSDB-TYPE")
    refused(lambda: client.get("temperature"), "WRONGTYPE")
    pipeline = ts.pipeline()
    pipeline.add("piped", 1, 1).add("piped", 2, 2).get("piped")
    found = pipeline.execute()
    expect([found[0], found[1], list(found[2])], [1, 2, [2, 2.0]])


def aggregations(client):
    ts = client.ts()
    ts.create("ramp")
    for start in range(0, 100, 50):
        ts.madd([("ramp", index * 10, index) for index in range(start, start + 50)])
    # Two buckets of 20 samples: 0..19 and 20..39.
    variance = sum((index - 9.5) ** 2 for index in range(20))
    for aggregator, first, second in [
        ("avg", 9.5, 29.5),
        ("sum", 190, 590),
        ("min", 0, 20),
        ("max", 19, 39),
        ("range", 19, 19),
        ("count", 20, 20),
        ("first", 0, 20),
        ("last", 19, 39),
        ("var.p", variance / 20, variance / 20),
        ("var.s", variance / 19, variance / 19),
        ("std.p", math.sqrt(variance / 20), math.sqrt(variance / 20)),
        ("std.s", math.sqrt(variance / 19), math.sqrt(variance / 19)),
        ("twa", 10, 29.95),
    ]:
        options = {"aggregation_type": aggregator, "bucket_size_msec": 200}
        expected = [[0, first], [200, second]]
        found = samples(ts.range("ramp", 0, 399, **options))
        expect([time for time, _ in found], [0, 200])
        for (_, value), (_, wanted) in zip(found, expected):
            assert math.isclose(value, wanted, rel_tol=1e-12), (aggregator, found)
        expect(samples(ts.revrange("ramp", 0, 399, **options)), found[::-1])
        expect(samples(ts.revrange("ramp", 0, 399, count=1, **options)), found[1:])
    counts = {"aggregation_type": "count", "bucket_size_msec": 25}
    expect(samples(ts.range("ramp", 10, 50, align="start", **counts)), [[10, 3], [35, 2]])
    maxima = {"aggregation_type": "max", "bucket_size_msec": 200}
    expect(samples(ts.range("ramp", 0, 399, bucket_timestamp="mid", **maxima)), [[100, 19], [300, 39]])
    expect(samples(ts.range("ramp", "-", "+", filter_by_min_value=10, filter_by_max_value=12)), [[100, 10], [110, 11], [120, 12]])
    expect(samples(ts.range("ramp", "-", "+", filter_by_ts=[20, 10, 5])), [[10, 1], [20, 2]])
    expect(ts.delete("ramp", 105, 895), 79)
    expect(ts.delete("ramp", 105, 895), 0)
    gaps = {"aggregation_type": "count", "bucket_size_msec": 400, "empty": True}
    expect(samples(ts.range("ramp", "-", "+", **gaps)), [[0, 11], [400, 0], [800, 10]])
    info = ts.info("ramp")
    field = info.get if isinstance(info, dict) else lambda name: info[name]
    try:
        found = [field("total_samples"), field("first_timestamp"), field("last_timestamp")]
    except KeyError:
        found = None
    if found is None or found[0] is None:
        found = [info["totalSamples"], info["firstTimestamp"], info["lastTimestamp"]]
    expect(found, [21, 0, 990])


def main():
    host, port, protocol = sys.argv[1:]
    client = redis.Redis(host=host, port=int(port), protocol=int(protocol), decode_responses=True)
    client.flushall()
    for part in [connection, keys, pipelines, series, aggregations]:
        part(client)
    expect(client.flushdb(), True)
    expect(client.dbsize(), 0)
    # A thousand deleted keys lie between these.
    client.mset({"k0": "a", "k500": "b", "ramp": "c"})
    for count in [1, 10, 5000]:
        expect(sorted(client.scan_iter("*", count=count)), ["k0", "k500", "ramp"])
    print("ok")


main()
