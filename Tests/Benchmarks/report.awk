# SPDX-License-Identifier: Apache-2.0
#
# Joins what the program measured with what callgrind counted, a file a case and side.

FNR == 1 { file++ }

# The program's lines: name, ns of ours, ns of C, ratio, heap growth.
file == 1 { order[++cases] = $1; ours[$1] = $2; theirs[$1] = $3; ratio[$1] = $4; heap[$1] = $5; next }

# callgrind's: which case, how many instructions, what was called.
/^desc: Trigger: Client Request: / {
    count = split($NF, part, "/")
    name = part[1] "/" part[2] "/" part[3]
    side = part[4]
    buffers = part[5]
}
/^(summary|totals): / && count { instructions[name, side] = $2 / buffers }
/^cfn=/ { callee = substr($0, 5) }
/^calls=/ && side == "swift" {
    split(substr($1, 7), calls, " ")
    if (callee ~ /^(malloc|calloc|realloc|free|posix_memalign|aligned_alloc|swift_(slow)?[aA]lloc|swift_dealloc|swift_slowDealloc)/)
        allocations[name] += calls[1]
    if (callee ~ /swift_(bridgeObject)?(retain|release|Retain|Release)/) references[name] += calls[1]
    if (callee ~ /swift_(begin|end)Access/) checks[name] += calls[1]
}

END {
    printf "%-22s %8s %8s %6s %9s %9s %6s %7s %8s %9s %6s\n", "ring/shape/batch", "ns", "C ns", "ratio",
        "instr.", "C instr.", "ratio", "allocs", "ref.cnt.", "excl.chk.", "heap"
    for (index_ = 1; index_ <= cases; index_++) {
        name = order[index_]
        s = instructions[name, "swift"]; c = instructions[name, "c"]
        if (!s || !c) { print name ": callgrind has counted nothing"; bad = 1; continue }
        printf "%-22s %8.2f %8.2f %6.2f %9.1f %9.1f %6.3f %7d %8d %9d %6d\n", name, ours[name], theirs[name],
            ratio[name], s, c, s / c, allocations[name], references[name], checks[name], heap[name]
        if (s / c > limit) slow = slow " " name
        if (allocations[name] + references[name] + checks[name] > 0) { dear = dear " " name; bad = 1 }
        split(name, part, "/")
        rings[part[1]]
        sum[part[1], "swift"] += s; sum[part[1], "c"] += c
    }
    if (slow) print "more than " limit " times the instructions of C:" slow
    for (ring in rings) {
        total = sum[ring, "swift"] / sum[ring, "c"]
        printf "%s, all cases together: %.3f times the instructions of C\n", ring, total
        if (total > limit) bad = 1
    }
    if (dear) print "allocates, counts references or checks exclusivity:" dear
    exit bad
}
