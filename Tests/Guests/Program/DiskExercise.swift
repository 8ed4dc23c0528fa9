// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What went wrong on the disk.
enum DiskError: Error, CustomStringConvertible {
    case system(call: String, code: Int32)
    case shortTransfer(sector: Int, byteCount: Int)
    case wrongData(sector: Int, generation: UInt64)

    var description: String {
        switch self {
        case .system(let call, let code): "\(call): \(String(describingError: code))"
        case .shortTransfer(let sector, let byteCount):
            "the transfer at sector \(sector) ended after \(byteCount) bytes"
        case .wrongData(let sector, let generation):
            "sector \(sector) does not hold its generation \(generation)"
        }
    }
}

/// Random reads and writes of whole sectors, past the page cache, on a part of a block device that
/// nobody else uses; every read is checked against a model of what was written last.
struct DiskExercise {
    static let sectorByteCount = 512
    static let wordsPerSector = sectorByteCount / 8
    static let mostSectorsPerTransfer = 512

    private let descriptor: Int32
    private let firstSector: Int
    private let sectorCount: Int
    private var random: UInt64
    /// How often each sector was written; 0 is never.
    private var generations: [UInt64]
    private let buffer: TransferBuffer
    private(set) var transferCount = 0

    /// Opens `path` for the sectors from `firstSector` on.
    init(path: String, firstSector: Int, sectorCount: Int, seed: UInt64) throws(DiskError) {
        // SAFETY: the path is passed as a NUL-terminated string that lives through the call.
        descriptor = unsafe open(path, O_RDWR | TransferBuffer.pastPageCache | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(call: "open \(path)", code: errno) }
        self.firstSector = firstSector
        self.sectorCount = sectorCount
        random = seed
        generations = Array(repeating: 0, count: sectorCount)
        buffer = TransferBuffer(wordCount: Self.mostSectorsPerTransfer * Self.wordsPerSector)
    }

    func finish() {
        close(descriptor)
    }

    /// Makes the device keep what was written.
    func flush() throws(DiskError) {
        guard fsync(descriptor) == 0 else { throw .system(call: "fsync", code: errno) }
    }

    /// One read or write of a random range, writes a little more often.
    mutating func transferSomewhere() throws(DiskError) {
        let count = randomSectorCount()
        let start = Int(nextRandom() % UInt64(sectorCount - count + 1))
        if nextRandom() % 8 < 5 {
            try write(start..<(start + count))
        } else {
            try check(start..<(start + count))
        }
    }

    /// Reads every sector that was ever written and checks it.
    mutating func checkEverything() throws(DiskError) {
        var start = 0
        while start < sectorCount {
            let end = min(start + Self.mostSectorsPerTransfer, sectorCount)
            try check(start..<end)
            start = end
        }
    }

    /// Mostly small transfers, some as large as the buffer.
    private mutating func randomSectorCount() -> Int {
        let limit = min(sectorCount, nextRandom() % 8 == 0 ? Self.mostSectorsPerTransfer : 32)
        return 1 + Int(nextRandom() % UInt64(limit))
    }

    private mutating func nextRandom() -> UInt64 {
        random &+= 1
        return StreamPattern(seed: 0x6469_736b).word(at: random)
    }

    private func pattern(of sector: Int) -> StreamPattern {
        StreamPattern(seed: UInt64(firstSector + sector) << 24 | generations[sector])
    }

    private mutating func write(_ sectors: Range<Int>) throws(DiskError) {
        for (position, sector) in sectors.enumerated() {
            generations[sector] += 1
            let pattern = pattern(of: sector)
            for word in 0..<Self.wordsPerSector {
                buffer[position * Self.wordsPerSector + word] = pattern.word(at: UInt64(word))
            }
        }
        let byteCount = sectors.count * Self.sectorByteCount
        let written = buffer.write(to: descriptor, byteCount: byteCount, at: offset(of: sectors))
        try expect(written, byteCount, "pwrite", sectors)
    }

    private mutating func check(_ sectors: Range<Int>) throws(DiskError) {
        let byteCount = sectors.count * Self.sectorByteCount
        let read = buffer.read(from: descriptor, byteCount: byteCount, at: offset(of: sectors))
        try expect(read, byteCount, "pread", sectors)
        for (position, sector) in sectors.enumerated() where generations[sector] > 0 {
            let pattern = pattern(of: sector)
            for word in 0..<Self.wordsPerSector
            where buffer[position * Self.wordsPerSector + word] != pattern.word(at: UInt64(word)) {
                throw .wrongData(sector: firstSector + sector, generation: generations[sector])
            }
        }
    }

    private func offset(of sectors: Range<Int>) -> Int {
        (firstSector + sectors.lowerBound) * Self.sectorByteCount
    }

    private mutating func expect(
        _ transferred: Int, _ byteCount: Int, _ call: String, _ sectors: Range<Int>
    ) throws(DiskError) {
        guard transferred >= 0 else { throw .system(call: call, code: errno) }
        guard transferred == byteCount else {
            throw .shortTransfer(sector: firstSector + sectors.lowerBound, byteCount: transferred)
        }
        transferCount += 1
    }
}
