// SPDX-License-Identifier: Apache-2.0

import Driver

/// SAFETY: libFuzzer calls from one thread.
nonisolated(unsafe) private let fuzzer = try? RingFuzzer()

/// Runs one program of a malicious driver; libFuzzer makes the programs up.
@c(LLVMFuzzerTestOneInput)
public func fuzzRing(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    let program = [UInt8](UnsafeBufferPointer(start: bytes, count: count))
    guard let fuzzer else { preconditionFailure("there is memory for the ring") }
    if let failure = fuzzer.run(program) { preconditionFailure(failure) }
    return 0
}
