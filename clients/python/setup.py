"""Builds the package with the stubs of the contract, which are generated from api/ beside it in the repository."""

import pathlib
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import generate_stubs  # noqa: E402


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        generate_stubs.generate(pathlib.Path(self.build_lib))


setup(cmdclass={"build_py": BuildWithStubs})
