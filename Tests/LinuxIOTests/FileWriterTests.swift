// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import SystemPackage
import Testing

@Suite("A file that a thread of its own writes")
struct FileWriterTests {
    let path = "/tmp/file-writer-" + String(UInt64.random(in: .min ... .max), radix: 16)

    @Test("has everything in its order once it is finished, and takes nothing afterwards")
    func order() throws {
        let writer = try FileWriter(path: path, threadName: "writer")
        var expected: [UInt8] = []
        for index in 0..<500 {
            let piece = [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: index % 70)
            writer.write(piece)
            expected += piece
        }
        writer.finish()
        #expect(writer.waitingByteCount == 0)
        #expect(writer.failure == nil)
        // SAFETY: the path is passed as a C string for the length of the calls; read fills the array,
        // no further than its end.
        let file = unsafe open(path, O_RDONLY)
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe read(file, &bytes, bytes.count)
        #expect(Array(bytes.prefix(max(0, count))) == expected)
        close(file)
        unsafe unlink(path)
    }

    @Test("says why it takes no more, and does not keep what comes afterwards")
    func failure() throws {
        let writer = try FileWriter(path: "/dev/full", threadName: "writer")
        for _ in 0..<20 { writer.write([1, 2, 3]) }
        writer.finish()
        #expect(writer.failure == .noSpace)
        #expect(writer.waitingByteCount == 0)
    }

    @Test("is not made where no file can be")
    func noFile() {
        #expect(throws: (any Error).self) {
            try FileWriter(path: "/proc/none/x", threadName: "writer")
        }
    }
}
