// SPDX-License-Identifier: Apache-2.0

import Foundation
import LinuxIO
import SCSI
import Stores
import Testing

/// A service's hold on a real file, whose exchanges are done when the test says so.
final class SharedKeeper: TestKeeper {
    let isShared = true
    private let path: String
    private var file: LockedFile?
    private var exchanges: [(([UInt8]?) -> [UInt8]?, (UInt64?) -> Void)] = []

    init(path: String) { self.path = path }

    var changes: SharedCounter { file?.changes ?? .constant }

    func open() throws -> OpenedDiskState {
        try OpenedDiskState { change in
            let file = try LockedFile(path: path, isShared: true, limit: 1 << 20, opening: change)
            self.file = file
            return file.openingCount
        }
    }

    func exchange(
        _ change: @escaping @Sendable ([UInt8]?) -> [UInt8]?,
        whenDone: @escaping (UInt64?) -> Void
    ) {
        exchanges.append((change, whenDone))
    }

    var pendingCount: Int { exchanges.count }

    func finish() {
        while !exchanges.isEmpty {
            let (change, whenDone) = exchanges.removeFirst()
            whenDone(try? file?.exchange(change))  // A failure is nil.
        }
    }
}

@Suite("A disk that services share")
struct SharedDiskTests {
    static let write: [UInt8] = [0x2A, 0, 0, 0, 0, 5, 0, 0, 1, 0]
    static let block = [UInt8](repeating: 1, count: 512)
    static let ready: [UInt8] = [0, 0, 0, 0, 0, 0]

    /// Services in one process, each with its own hold on the file, and a machine at each.
    final class Services {
        let folder: String
        var path: String { folder + "/state" }

        init() throws {
            folder = FileManager.default.temporaryDirectory.path + "/shared-\(UUID().uuidString)"
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true)
        }

        deinit {
            try? FileManager.default.removeItem(atPath: folder)  // The next run has its own.
        }

        func start(_ name: String) -> Initiator {
            Initiator(keeper: SharedKeeper(path: path), name: name)
        }

        /// A service ends.
        func stop(_ initiator: inout Initiator?) throws {
            initiator?.bus.detach(target: 0, lun: try #require(LUN(0)))
            initiator?.disk.close()
            initiator = nil
        }

        func start(_ name: String, _ keeper: SharedKeeper) -> Initiator {
            Initiator(keeper: keeper, name: name)
        }
    }

    static func out(
        _ initiator: Initiator, _ action: UInt8, key: UInt8 = 0, new: UInt8 = 0, type: UInt8 = 0,
        persists: Bool = false
    ) -> Initiator.Answer {
        DiskStateTests.out(
            initiator, action, key: key, new: new, type: type, persists: persists)
    }

    @Test("has one set of registrations, whichever service is asked")
    func registrations() throws {
        let services = try Services()
        let (one, two) = (services.start("one"), services.start("two"))
        #expect(Self.out(one, 0, new: 0xA1).status == .good)
        #expect(Self.out(two, 0, new: 0xB2).status == .good)
        let keys: [UInt8] = [
            0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xA1, 0, 0, 0, 0, 0, 0, 0, 0xB2,
        ]
        #expect(DiskStateTests.reserveIn(one, 0) == keys)
        #expect(DiskStateTests.reserveIn(two, 0) == keys)
        // Each has its own TransportID.
        let status = DiskStateTests.reserveIn(one, 3)
        #expect(Array(status[36..<39]) == Array("one".utf8))
        #expect(Array(status[84..<87]) == Array("two".utf8))
    }

    @Test(
        "obeys a reservation that was made at another service with the next command",
        arguments: [(1, true, false), (3, false, false), (5, true, false), (6, false, false)])
    func conflicts(type: UInt8, mayRead: Bool, mayWrite: Bool) throws {
        let services = try Services()
        let (one, two) = (services.start("one"), services.start("two"))
        #expect(two.send(Self.write, out: Self.block).status == .good)
        _ = Self.out(one, 0, new: 0xA1)
        #expect(Self.out(one, 1, key: 0xA1, type: type).status == .good)
        let read = two.send([0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0], in: 512)
        #expect(read.status == (mayRead ? .good : .reservationConflict))
        #expect(two.send(Self.write, out: Self.block).status == .reservationConflict)
        #expect(one.send(Self.write, out: Self.block).status == .good)
        // A registrant may, where the type says so.
        _ = Self.out(two, 0, new: 0xB2)
        let favours = type == 5 || type == 6
        #expect(
            two.send(Self.write, out: Self.block).status
                == (favours ? .good : .reservationConflict))
        _ = Self.out(one, 2, key: 0xA1, type: type)
        _ = two.send(Self.ready)
        #expect(two.send(Self.write, out: Self.block).status == .good)
    }

    @Test("tells machines at other services what has become of their registrations")
    func attentions() throws {
        let services = try Services()
        let (one, two) = (services.start("one"), services.start("two"))
        _ = Self.out(one, 0, new: 0xA1)
        _ = Self.out(two, 0, new: 0xB2)
        _ = Self.out(one, 1, key: 0xA1, type: 5)
        // RESERVATIONS RELEASED, once.
        _ = Self.out(one, 2, key: 0xA1, type: 5)
        #expect(two.send(Self.ready).fixedSense == [6, 0x2A, 0x04])
        #expect(two.send(Self.ready).status == .good)
        _ = Self.out(one, 1, key: 0xA1, type: 5)
        _ = Self.out(one, 2, key: 0xA1, type: 5)
        #expect(two.send(Self.ready).fixedSense == [6, 0x2A, 0x04])
        // REGISTRATIONS PREEMPTED.
        _ = Self.out(one, 1, key: 0xA1, type: 1)
        #expect(Self.out(two, 4, key: 0xB2, new: 0xA1, type: 1).status == .good)
        #expect(one.send(Self.write, out: Self.block).fixedSense == [6, 0x2A, 0x05])
        #expect(one.send(Self.write, out: Self.block).status == .reservationConflict)
        // RESERVATIONS PREEMPTED.
        _ = Self.out(one, 0, new: 0xA1)
        _ = Self.out(one, 3, key: 0xA1)
        #expect(two.send(Self.ready).fixedSense == [6, 0x2A, 0x03])
        #expect(one.send(Self.ready).status == .good)
    }

    @Test("is left alone by a command that finds a change, until that was read")
    func waits() throws {
        let services = try Services()
        let keeper = SharedKeeper(path: services.path)
        let (one, two) = (services.start("one"), services.start("two", keeper))
        _ = Self.out(one, 0, new: 0xA1)
        _ = Self.out(one, 1, key: 0xA1, type: 1)
        let first = two.start(Self.write, out: Self.block)
        let second = two.start(Self.ready)
        #expect(two.answers[first] == nil && two.answers[second] == nil)
        #expect(two.store.log.isEmpty && keeper.pendingCount == 1)
        // Who waits can be aborted.
        let third = two.start(Self.ready, tag: 3)
        #expect(two.manage(.abortTask, tag: 3) == .functionComplete)
        #expect(two.answers[third]?.response == .aborted)
        // And a change while it is read is read too.
        _ = Self.out(one, 2, key: 0xA1, type: 1)
        keeper.finish()
        two.store.endAll()
        two.collect()
        #expect(two.answers[first]?.status == .good)
        #expect(two.answers[second]?.status == .good)
    }

    @Test("fails commands while nobody can read what is kept, and goes on afterwards")
    func unreadable() throws {
        let services = try Services()
        let (one, two) = (services.start("one"), services.start("two"))
        _ = Self.out(one, 0, new: 0xA1)
        let good = try #require(FileManager.default.contents(atPath: services.path))
        try Data("nonsense".utf8).write(to: URL(fileURLWithPath: services.path))
        #expect(two.send(Self.ready).fixedSense == [4, 0x44, 0])
        #expect(two.send(Self.ready).fixedSense == [4, 0x44, 0])
        #expect(Self.out(one, 1, key: 0xA1, type: 1).fixedSense == [4, 0x44, 0])
        try good.write(to: URL(fileURLWithPath: services.path))
        #expect(two.send(Self.ready).status == .good)
        #expect(DiskStateTests.reserveIn(two, 0).last == 0xA1)
    }

    @Test("keeps registrations without APTPL as long as any service has it")
    func volatile() throws {
        let services = try Services()
        var one: Initiator? = services.start("one")
        var two: Initiator? = services.start("two")
        try #expect(Self.out(#require(one), 0, new: 0xA1).status == .good)
        try #expect(Self.out(#require(one), 1, key: 0xA1, type: 1).status == .good)
        try services.stop(&one)
        try #expect(
            #require(two).send(Self.write, out: Self.block).status == .reservationConflict)
        // The machine comes back, and has its reservation still.
        one = services.start("one")
        try #expect(#require(one).send(Self.write, out: Self.block).status == .good)
        try services.stop(&one)
        try services.stop(&two)
        two = services.start("two")
        try #expect(DiskStateTests.reserveIn(#require(two), 0) == [0, 0, 0, 0, 0, 0, 0, 0])
        try #expect(#require(two).send(Self.write, out: Self.block).status == .good)
    }

    @Test("keeps registrations with APTPL when the last service has gone")
    func persistent() throws {
        let services = try Services()
        var one: Initiator? = services.start("one")
        try #expect(Self.out(#require(one), 0, new: 0xA1, persists: true).status == .good)
        try #expect(Self.out(#require(one), 1, key: 0xA1, type: 1).status == .good)
        try services.stop(&one)
        let two = services.start("two")
        #expect(two.send(Self.write, out: Self.block).status == .reservationConflict)
        // Nobody is told twice: the power-on unit attention said it all.
        #expect(services.start("one").send(Self.write, out: Self.block).status == .good)
    }

    @Test("moves its reservation to a machine at another service that is registered")
    func move() throws {
        let services = try Services()
        let (one, two) = (services.start("one"), services.start("two"))
        _ = Self.out(one, 0, new: 0xA1)
        _ = Self.out(one, 1, key: 0xA1, type: 1)
        let id: [UInt8] = [5, 0, 0, 20] + Array("two".utf8) + [UInt8](repeating: 0, count: 17)
        let list =
            [UInt8](repeating: 0, count: 7) + [0xA1] + [UInt8](repeating: 0, count: 7) + [0xC3]
            + [0, 0, 0, 1, 0, 0, 0, 24] + id
        let cdb: [UInt8] = [0x5F, 7, 0, 0, 0, 0, 0, 0, 48, 0]
        #expect(one.send(cdb, out: list).fixedSense == [5, 0x26, 0])
        _ = Self.out(two, 0, new: 0xB2)
        #expect(one.send(cdb, out: list).status == .good)
        #expect(two.send(Self.write, out: Self.block).status == .good)
        #expect(one.send(Self.write, out: Self.block).status == .reservationConflict)
    }

    @Test(
        "has no commands that would have to keep other services off (5/20/00)",
        arguments: [0x16, 0x17, 0x48, 0x56, 0x57, 0x89, 0x8B] as [UInt8])
    func absent(code: UInt8) throws {
        let one = try Services().start("one")
        let cdb = [code, code == 0x48 ? 2 : 0] + [UInt8](repeating: 0, count: 14)
        #expect(one.send(cdb).fixedSense == [5, 0x20, 0])
        let limits = one.send([0x12, 1, 0xB0, 0, 64, 0], in: 64)
        #expect(limits.data[5] == 0)
    }
}
