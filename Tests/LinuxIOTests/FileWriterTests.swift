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
        let writer = try FileWriter(path: path, replacing: [1, 2], threadName: "writer")
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
        let writer = try FileWriter(path: "/dev/full", replacing: [], threadName: "writer")
        for _ in 0..<20 { writer.write([1, 2, 3]) }
        writer.finish()
        #expect(writer.failure == .noSpace)
        #expect(writer.waitingByteCount == 0)
    }

    /// `text` in the file, then a writer that writes "12 new"; what the file holds in the end.
    private func content(after text: String) throws -> [UInt8] {
        try SmallFile.replace(path, with: Array(text.utf8))
        defer { SmallFile.remove(path) }
        do throws(Errno) {
            let writer = try FileWriter(
                path: path, replacing: Array("12".utf8), threadName: "writer")
            writer.write(Array("12 new".utf8))
            writer.finish()
        } catch {
            #expect(error == .fileExists)
        }
        return try SmallFile.read(path, limit: 1 << 10)
    }

    @Test(
        "empties a file that starts as its own do, or is empty, and leaves others alone",
        arguments: [("12 old and long", true), ("", true), ("1", false), ("13 old", false)])
    func replaced(text: String, isReplaced: Bool) throws {
        #expect(try content(after: text) == Array((isReplaced ? "12 new" : text).utf8))
    }

    @Test("is not made where no file can be")
    func noFile() {
        #expect(throws: (any Error).self) {
            try FileWriter(path: "/proc/none/x", replacing: [], threadName: "writer")
        }
    }
}
