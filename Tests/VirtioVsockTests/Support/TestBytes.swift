// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing

/// A megabyte of noise, made once.
private let noise: [UInt8] = {
    var generator = SeededGenerator(seed: 1)
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    var index = 0
    while index < bytes.count {
        let word = generator.next()
        bytes[index] = UInt8(truncatingIfNeeded: word)
        bytes[index + 1] = UInt8(truncatingIfNeeded: word >> 8)
        bytes[index + 2] = UInt8(truncatingIfNeeded: word >> 16)
        bytes[index + 3] = UInt8(truncatingIfNeeded: word >> 24)
        index += 4
    }
    return bytes
}()

/// Bytes that tell where in a stream they belong, others for each seed.
func testBytes(_ count: Int, seed: Int = 1) -> [UInt8] {
    precondition(count + seed <= noise.count, "a test takes a megabyte at most")
    return Array(noise[seed..<seed + count])
}

/// Expects the same bytes, and says where they differ: the library's own comparison of long arrays
/// takes minutes when they do.
func expectSame(
    _ bytes: [UInt8], _ expected: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
) {
    if bytes == expected { return }
    let difference = zip(bytes, expected).enumerated().first { $0.element.0 != $0.element.1 }
    Issue.record(
        """
        \(bytes.count) bytes, expected \(expected.count); the first difference is at \
        \(difference.map { "\($0.offset)" } ?? "the end of the shorter one")
        """, sourceLocation: sourceLocation)
}
