"""The C++ client as other projects get it: installed, found by CMake, and the README's example and a program of checks
built with it and run against a real server."""

import re
import subprocess

import pytest

from conftest import ROOT, free_port

FOLDER = ROOT / "clients/cpp"
BUILD = ROOT / "build/release"


def cmake(*arguments):
    result = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpp")
    cmake("--build", BUILD, "--target", "expertd_client", "expertd_protoset")
    cmake("--install", BUILD, "--component", "client", "--prefix", folder / "prefix")
    [example] = re.findall(r"```cpp\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    (folder / "example.cc").write_text(example)
    (folder / "check.cc").write_text((ROOT / "tests/integration/cpp_client_check.cc").read_text())
    [usage] = re.findall(r"```cmake\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(user CXX)\nadd_executable(my_service example.cc)\n" + usage +
        "add_executable(check check.cc)\ntarget_link_libraries(check PRIVATE expertd::client)\n")
    cmake("-S", folder, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={folder}/prefix")
    cmake("--build", folder / "build")
    return folder


def test_what_the_client_promises(slow_server, programs):
    result = subprocess.run([programs / "build/check", slow_server.target, f"127.0.0.1:{free_port()}"],
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and "all held" in result.stdout, result.stdout + result.stderr


def test_the_example(server, programs):
    program = programs / "build/my_service"
    if server.target != "127.0.0.1:50051":
        source = programs / "example.cc"
        source.write_text(source.read_text().replace("127.0.0.1:50051", server.target))
        cmake("--build", programs / "build", "--target", "my_service")
    result = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "Paris" in result.stdout, result.stdout + result.stderr


def test_the_descriptor_set_holds_the_contract(programs):
    from google.protobuf import descriptor_pb2
    files = descriptor_pb2.FileDescriptorSet.FromString(
        (programs / "prefix/share/expertd/expertd.protoset").read_bytes()).file
    services = {f"{f.package}.{s.name}" for f in files for s in f.service}
    assert {"expertd.v1.InferenceService", "expertd.v1.ControlService"} <= services
    known = {f.name for f in files}
    assert all(dependency in known for f in files for dependency in f.dependency)
