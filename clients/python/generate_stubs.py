"""The stubs of the contract as `expertd.v1`, beside the package's own modules: python generate_stubs.py FOLDER"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
API = HERE / "api"  # as in a source archive; else in the repository
if not API.is_dir():
    API = HERE.parents[1] / "api"


def protos():
    found = sorted((API / "expertd/v1").glob("*.proto"))
    if not found:
        raise SystemExit(f"no protos in {API}: build the package inside its repository, or from its source archive")
    return found


def generate(folder):
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{API}", f"--python_out={folder}",
                    f"--pyi_out={folder}", f"--grpc_python_out={folder}", *map(str, protos())], check=True)
    (folder / "expertd/v1/__init__.py").write_text('"""The contract, as generated."""\n')


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]))
