"""A stock client, unchanged: tritonclient over gRPC and HTTP, synchronous, asynchronous and streaming.

    python triton.py GRPC_ADDRESS HTTP_ADDRESS [CA_FILE]

With an authority's certificate, over TLS.
"""
import asyncio
import queue
import ssl
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException

A = np.arange(16, dtype=np.int32).reshape(1, 16)
B = np.ones((1, 16), dtype=np.int32)
CA = sys.argv[3] if len(sys.argv) > 3 else None
GRPC = {"ssl": True, "root_certificates": CA} if CA else {}
HTTP = {"ssl": True, "ssl_context_factory": lambda: ssl.create_default_context(cafile=CA)} if CA else {}
HTTP_AIO = {"ssl": True, "ssl_context": ssl.create_default_context(cafile=CA)} if CA else {}


def inputs(module, **binary):
    both = [module.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    for tensor, data in zip(both, (A, B)):
        tensor.set_data_from_numpy(data, **binary)
    return both


def check(result):
    assert (result.as_numpy("OUTPUT0") == A + B).all()
    assert (result.as_numpy("OUTPUT1") == A - B).all()


def refused(call, *words):
    try:
        call()
    except InferenceServerException as error:
        assert all(word in str(error) for word in words), error
        return
    raise AssertionError("it should have been refused")


def grpc_sync(address):
    with grpc.InferenceServerClient(address, **GRPC) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("simple")
        assert not client.is_model_ready("x")
        assert client.get_server_metadata().name == "splitplace"
        assert client.get_model_metadata("fashion-mnist").inputs[0].shape == [-1, 1, 28, 28]
        assert client.get_model_config("simple").config.name == "simple"
        check(client.infer("simple", inputs(grpc)))
        result = client.infer("simple", inputs(grpc), request_id="7", timeout=900_000,
                              outputs=[grpc.InferRequestedOutput("OUTPUT1")], parameters={"splitplace_sla_ms": 800})
        response = result.get_response()
        assert response.id == "7" and len(response.outputs) == 1
        assert response.parameters["splitplace_sla_us"].int64_param == 800_000
        picture = grpc.InferInput("image", [2, 1, 28, 28], "FP32")
        picture.set_data_from_numpy(np.zeros((2, 1, 28, 28), dtype=np.float32))
        assert client.infer("fashion-mnist", [picture]).as_numpy("scores").shape == (2, 10)
        refused(lambda: client.infer("x", inputs(grpc)), "unknown model: 'x' is not found")
        statistics = client.get_inference_statistics("simple").model_stats[0]
        assert statistics.inference_stats.success.count >= 2
        assert {model.name for model in client.get_model_repository_index().models} == {"simple", "fashion-mnist"}
        refused(lambda: client.load_model("zz"), "failed to load 'zz'")
        client.unload_model("simple")
        assert not client.is_model_ready("simple")
        client.load_model("simple")
        check(client.infer("simple", inputs(grpc)))


def grpc_callbacks(address):
    answers = queue.Queue()
    with grpc.InferenceServerClient(address, **GRPC) as client:
        for _ in range(8):
            client.async_infer("simple", inputs(grpc), lambda result, error: answers.put((result, error)))
        for _ in range(8):
            result, error = answers.get(timeout=60)
            assert error is None, error
            check(result)
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(9):
            model = "x" if number == 4 else "simple"
            client.async_stream_infer(model, inputs(grpc), request_id=str(number))
        client.async_stream_infer("simple", inputs(grpc), request_id="last", enable_empty_final_response=True)
        told = [answers.get(timeout=60) for _ in range(10)]
        client.stop_stream()
    assert [error is not None for _, error in told] == [number == 4 for number in range(10)]
    for result, error in told:
        if error is None:
            check(result)
    assert told[9][0].get_response().parameters["triton_final_response"].bool_param


async def grpc_async(address):
    async with grpc_aio.InferenceServerClient(address, **GRPC) as client:
        results = await asyncio.gather(*(client.infer("simple", inputs(grpc_aio)) for _ in range(8)))
        for result in results:
            check(result)

        async def requests():
            for number in range(5):
                yield {"model_name": "simple", "inputs": inputs(grpc_aio), "request_id": str(number)}

        count = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            check(result)
            count += 1
        assert count == 5


def http_sync(address):
    with http.InferenceServerClient(address, **HTTP) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("simple")
        assert client.get_server_metadata()["name"] == "splitplace"
        assert client.get_model_metadata("simple")["inputs"][0]["datatype"] == "INT32"
        assert client.get_model_config("simple")["max_batch_size"] == 0
        for binary in (True, False):
            outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
            check(client.infer("simple", inputs(http, binary_data=binary), outputs=outputs, request_id="7"))
        check(client.infer("simple", inputs(http)))
        check(client.async_infer("simple", inputs(http)).get_result())
        refused(lambda: client.infer("x", inputs(http)), "unknown model: 'x' is not found")
        assert client.get_inference_statistics("simple")["model_stats"][0]["inference_stats"]["success"]["count"] > 0
        assert len(client.get_model_repository_index()) == 2
        client.unload_model("simple")
        client.load_model("simple")


async def http_async(address):
    async with http_aio.InferenceServerClient(address, **HTTP_AIO) as client:
        for result in await asyncio.gather(*(client.infer("simple", inputs(http_aio)) for _ in range(8))):
            check(result)


def main():
    over_grpc, over_http = sys.argv[1:3]
    grpc_sync(over_grpc)
    grpc_callbacks(over_grpc)
    asyncio.run(grpc_async(over_grpc))
    http_sync(over_http)
    asyncio.run(http_async(over_http))
    print("ok")


if __name__ == "__main__":
    main()
