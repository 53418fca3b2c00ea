"""Tests of `registry-mock`, from outside: a process, a socket, HTTP."""
