// SPDX-License-Identifier: Apache-2.0

public import Driver

/// The dirty log that a front-end shares with its back-ends: a bit for each 4096 bytes of guest
/// memory, between two stretches that belong to nobody.
public final class DirtyLogFile {
    private let file: TestMemory
    /// Bytes of the log.
    public let byteCount: Int
    /// Where the log starts in its file.
    public let offset: UInt64

    /// A log without a bit.
    public init(byteCount: Int, offset: UInt64 = 4096) throws {
        self.byteCount = byteCount
        self.offset = offset
        file = try TestMemory(
            byteCount: UInt64(byteCount), at: 0, fileOffset: offset)
    }

    /// A log that is just long enough for a guest's memory.
    public convenience init(for memory: TestMemory, offset: UInt64 = 4096) throws {
        let end = memory.regions.map(\.endAddress).max() ?? 0
        try self.init(byteCount: Int((end / 4096 + 7) / 8), offset: offset)
    }

    /// SET_LOG_BASE with this log.
    public var message: FrontEndMessage {
        .setLogBase(byteCount: UInt64(byteCount), offset: offset, descriptor: rawDescriptor)
    }

    /// The file; stays this object's.
    public var rawDescriptor: Int32 { file.rawDescriptor(ofRegion: 0) }

    /// The pages (guest address / 4096) that are marked.
    public var pages: Set<UInt64> {
        var pages: Set<UInt64> = []
        for (index, byte) in file.read(at: 0, count: byteCount).enumerated() where byte != 0 {
            for bit in 0..<8 where byte & 1 << bit != 0 { pages.insert(UInt64(8 * index + bit)) }
        }
        return pages
    }

    /// The pages that are marked; none are after that.
    ///
    /// For a back-end that has nothing to do meanwhile.
    public func take() -> Set<UInt64> {
        defer { file.fill(0, at: 0, count: byteCount) }
        return pages
    }

    /// Whether the bytes of the file that are not the log's are as they were.
    public var canariesAreIntact: Bool { file.canariesAreIntact }
}

/// Live migration, as front-ends go about it.
extension FrontEnd {
    /// Has running rings log what they write, as QEMU does when a migration begins.
    public func beginLogging(to log: DirtyLogFile, _ rings: [GuestRing]) throws {
        try setLog(log)
        features |= FeatureBit.logAll
        try require(.setFeatures(features))
        for ring in rings { try require(ring.addressMessage(flags: 1)) }
    }

    /// Has running rings log no more, as QEMU does when a migration was given up.
    public func endLogging(_ rings: [GuestRing]) throws {
        features &= ~FeatureBit.logAll
        try require(.setFeatures(features))
        for ring in rings { try require(ring.addressMessage()) }
    }

    /// Gives the back-end a log, or another one.
    ///
    /// - Throws: `noReply` unless the answer is the request's payload, as rust-vmm wants it.
    public func setLog(_ log: DirtyLogFile) throws {
        let message = log.message
        let reply = try ask(message)
        guard reply.payload == message.payload else {
            throw FrontEndError.noReply(to: MessageType.setLogBase)
        }
    }
}
