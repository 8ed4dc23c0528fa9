// SPDX-License-Identifier: Apache-2.0

import Foundation
import LinuxIO
import SystemPackage
import Testing

@Suite("A locked file")
struct LockedFileTests {
    /// A path in a folder that is removed afterwards.
    static func withPath(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.path + "/locked-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder + "/state")
    }

    @Test("holds what it was last replaced with")
    func replaces() throws {
        try Self.withPath { path in
            let file = try LockedFile(path: path)
            #expect(try file.read(limit: 10) == nil)
            try file.replace(with: [1, 2, 3])
            try file.replace(with: [4, 5])
            #expect(try file.read(limit: 10) == [4, 5])
            #expect(throws: Errno.fileTooLarge) { try file.read(limit: 1) }
        }
    }

    @Test("is had by one owner at a time")
    func locks() throws {
        try Self.withPath { path in
            var first: LockedFile? = try LockedFile(path: path)
            #expect(first?.path == path)
            #expect(throws: Errno.resourceTemporarilyUnavailable) { try LockedFile(path: path) }
            first = nil
            #expect(throws: Never.self) { try LockedFile(path: path) }
        }
    }
}
