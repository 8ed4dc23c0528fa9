// SPDX-License-Identifier: Apache-2.0

import Glibc
import Sessions

/// SAFETY: libFuzzer calls from one thread.
nonisolated(unsafe) private let fuzzer = try? SessionFuzzer(name: "session")
/// SAFETY: as above.
nonisolated(unsafe) private let letterFuzzer = try? SessionFuzzer(
    name: "letters", queueServerCount: 2)
/// SAFETY: as above.
nonisolated(unsafe) private var runCount = 0

/// Runs one program of a malicious front-end; libFuzzer makes the programs up.
@c(LLVMFuzzerTestOneInput)
public func fuzzSession(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    let program = [UInt8](UnsafeBufferPointer(start: bytes, count: count))
    guard let fuzzer, let letterFuzzer else {
        preconditionFailure("there are servers to be fuzzed")
    }
    runCount += 1
    // Every program meets a device of one thread, and one whose queues are served on others.
    if let failure = letterFuzzer.run(program, checkingDescriptors: runCount % 256 == 0) {
        say(failure)
        preconditionFailure(failure)
    }
    if let failure = fuzzer.run(program, checkingDescriptors: runCount % 256 == 0) {
        say(failure)
        preconditionFailure(failure)
    }
    return 0
}

/// A message of `preconditionFailure` is not in the program as it is built here.
private func say(_ line: String) {
    let bytes = Array("\(line)\n".utf8)
    _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
}
