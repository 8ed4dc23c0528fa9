// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
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
            let file = try LockedFile(path: path, limit: 10)
            var seen: [[UInt8]?] = []
            for bytes: [UInt8]? in [[1, 2, 3], [4, 5], nil] {
                try file.exchange {
                    seen.append($0)
                    return bytes
                }
            }
            #expect(seen == [nil, [1, 2, 3], [4, 5]])
            #expect(throws: Errno.fileTooLarge) {
                try file.exchange { _ in [UInt8](repeating: 0, count: 11) }
            }
            try file.exchange {
                #expect($0 == [4, 5])
                return nil
            }
        }
    }

    @Test("is of no use when somebody has cut its counter off")
    func withoutCounter() throws {
        try Self.withPath { path in
            let file = try LockedFile(path: path, isShared: true, limit: 10)
            try file.exchange { _ in [1] }
            // SAFETY: the path is passed as a C string for the length of the call.
            try #require(unsafe truncate(path + ".lock", 0) == 0)
            #expect(throws: Errno.staleNFSFileHandle) { try file.exchange { _ in [2] } }
        }
    }

    @Test("is had by one owner at a time")
    func locks() throws {
        try Self.withPath { path in
            var first: LockedFile? = try LockedFile(path: path, limit: 10)
            #expect(first?.path == path)
            for isShared in [false, true] {
                #expect(throws: Errno.resourceTemporarilyUnavailable) {
                    try LockedFile(path: path, isShared: isShared, limit: 10)
                }
            }
            first = nil
            #expect(throws: Never.self) { try LockedFile(path: path, limit: 10) }
        }
    }

    @Test("is had by all who share it, and the first of them is told")
    func shares() throws {
        try Self.withPath { path in
            var firsts: [Bool] = []
            func open() throws -> LockedFile {
                try LockedFile(path: path, isShared: true, limit: 10) { bytes, isFirst in
                    firsts.append(isFirst)
                    return isFirst ? [7] : nil
                }
            }
            var files = [try open(), try open()]
            #expect(throws: Errno.resourceTemporarilyUnavailable) {
                try LockedFile(path: path, limit: 10)
            }
            files.removeFirst()
            files.append(try open())
            #expect(firsts == [true, false, false])
            files = []
            files.append(try open())
            #expect(firsts.last == true)
        }
    }

    @Test("has a counter that every other owner sees change, before the file does")
    func counts() throws {
        try Self.withPath { path in
            let one = try LockedFile(path: path, isShared: true, limit: 10)
            let other = try LockedFile(path: path, isShared: true, limit: 10)
            let before = other.changes.value
            #expect(before == other.openingCount)
            #expect(try one.exchange { _ in nil } == before)
            #expect(try one.exchange { _ in [1] } == before + 1)
            #expect(other.changes.value == before + 1)
            // A change that fails is announced all the same.
            try FileManager.default.createDirectory(
                atPath: path + ".new", withIntermediateDirectories: false)
            #expect(throws: Errno.isDirectory) { try one.exchange { _ in [2] } }
            var found: [UInt8]?
            #expect(
                try other.exchange {
                    found = $0
                    return nil
                } == before + 2)
            #expect(found == [1])
        }
    }

    @Test("is shared by those only to whom it is about the same")
    func subjects() throws {
        try Self.withPath { path in
            func open(_ subject: UInt64) throws(Errno) -> LockedFile {
                try LockedFile(path: path, isShared: true, subject: subject, limit: 10)
            }
            do {
                let files = [try open(7), try open(7)]
                for other: UInt64 in [0, 6, 8, 1 << 40 - 1] {
                    #expect(throws: Errno.fileExists) { try open(other) }
                }
                try files[0].exchange { _ in [1] }
            }
            _ = try open(8)
        }
    }

    @Test("is no use any more when somebody has removed what is locked")
    func removed() throws {
        try Self.withPath { path in
            let file = try LockedFile(path: path, limit: 10)
            try FileManager.default.removeItem(atPath: path + ".lock")
            #expect(throws: Errno.staleNFSFileHandle) { try file.exchange { _ in nil } }
        }
    }
}
