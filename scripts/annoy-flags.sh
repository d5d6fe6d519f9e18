#!/bin/sh
# Prints how to compile annoy, for ANNOY_COMPILER_ARGS. It comes as source only, and left alone it compiles
# for the CPU it finds. These flags make what any x86-64 CPU since 2009 runs, or any CPU of another kind.
set -eu
flags=-D_CRT_SECURE_NO_WARNINGS,-fpermissive,-O3,-ffast-math,-fno-associative-math
flags=$flags,-DANNOYLIB_MULTITHREADED_BUILD,-std=c++14
case $(uname -m) in
    x86_64 | amd64) flags=$flags,-march=x86-64-v2 ;;
esac
echo "$flags"
