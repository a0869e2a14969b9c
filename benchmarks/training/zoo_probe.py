"""Contestant (e) once more: zoo's probe step, which solves the head instead of training it for so many epochs."""

from common import job_from_arguments
from zoo_recipe import run

if __name__ == "__main__":
    run(job_from_arguments(), ["probe"])
