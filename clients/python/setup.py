"""Builds the package with the stubs of the contract, which are generated from the repository's api/."""

import importlib.metadata
import pathlib
import re
import shutil
import sys

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import generate_stubs  # noqa: E402


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        generate_stubs.generate(pathlib.Path(self.build_lib))


class SourceWithContract(sdist):
    """An archive that wheels can be built from outside the repository."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        shutil.copy(generate_stubs.__file__, base_dir)
        contract = pathlib.Path(base_dir, "api/expertd/v1")
        contract.mkdir(parents=True)
        for proto in generate_stubs.protos():
            shutil.copy(proto, contract)


# Stubs refuse a grpcio or protobuf older than the generator that made them, which itself asks for such ones.
generator_needs = importlib.metadata.requires("grpcio-tools")
needed_by_stubs = [need for need in generator_needs if re.match(r"(grpcio|protobuf)\b", need)]

setup(cmdclass={"build_py": BuildWithStubs, "sdist": SourceWithContract},
      install_requires=[*needed_by_stubs, "googleapis-common-protos>=1.60", "typing-extensions>=4.6"])
