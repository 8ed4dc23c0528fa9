// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Testing

/// Pieces of memory that are not next to each other.
@safe final class Pieces {
    private let base: UnsafeMutablePointer<UInt8>
    private let total: Int
    private let ranges: [Range<Int>]
    var list: IOVectorArray

    /// Makes pieces of the given lengths, with a guard byte before and behind each.
    init(_ lengths: [Int], filledFrom first: UInt8? = nil) {
        total = lengths.reduce(0, +) + lengths.count + 1
        unsafe base = .allocate(capacity: total)
        unsafe base.update(repeating: 0xee, count: total)
        var ranges: [Range<Int>] = []
        var list = IOVectorArray(capacity: 1)
        var offset = 1
        var next = first ?? 0
        for length in lengths {
            for index in offset..<offset + length {
                unsafe base[index] = next
                if first != nil { next &+= 1 }
            }
            unsafe list.append(base + offset, byteCount: length)
            ranges.append(offset..<offset + length)
            offset += length + 1
        }
        self.ranges = ranges
        self.list = list
    }

    deinit {
        unsafe base.deallocate()
    }

    /// What lies in the pieces, one after the other.
    var bytes: [UInt8] {
        ranges.flatMap { range in range.map { unsafe base[$0] } }
    }

    /// Whether no byte beside the pieces was touched.
    var guardsAreWhole: Bool {
        (0..<total).allSatisfy { index in
            unsafe ranges.contains { $0.contains(index) } || base[index] == 0xee
        }
    }

    /// Bytes of a part of the list.
    func bytes(of range: Range<Int>) -> [UInt8] {
        let slice = list.slice(range)
        var bytes = [UInt8](repeating: 0, count: slice.byteCount)
        var span = bytes.mutableSpan
        var raw = unsafe span.mutableBytes
        slice.copyBytes(into: &raw)
        return bytes
    }
}

@Suite("A list of pieces")
struct IOVectorArrayTests {
    @Test("grows, keeps its pieces and forgets them")
    func grows() {
        let pieces = Pieces(Array(repeating: 3, count: 100), filledFrom: 0)
        #expect(pieces.list.count == 100)
        #expect(pieces.list.capacity >= 100)
        #expect(pieces.list.all.byteCount == 300)
        #expect(pieces.bytes(of: 0..<100) == (0..<300).map { UInt8(truncatingIfNeeded: $0) })
        pieces.list.truncate(to: 2)
        #expect(pieces.list.all.byteCount == 6)
        pieces.list.removeAll()
        #expect(pieces.list.count == 0)
        #expect(pieces.list.all.byteCount == 0)
    }

    @Test("cuts bytes off its front at every place, and touches no other piece")
    func dropFirst() {
        for count in 0...12 {
            let pieces = Pieces([2, 3, 0, 4, 2], filledFrom: 0)
            var range = 1..<4
            let isWhole = pieces.list.dropFirst(count, of: &range)
            #expect(isWhole == (count <= 7))
            #expect(pieces.bytes(of: range) == (2 + min(count, 7)..<9).map { UInt8($0) })
            #expect(pieces.bytes(of: 0..<1) == [0, 1])
            #expect(pieces.bytes(of: 4..<5) == [9, 10])
            #expect(range.upperBound == 4)
        }
    }

    @Test("cuts bytes off its end at every place, and touches no other piece")
    func keepFirst() {
        for count in 0...12 {
            let pieces = Pieces([2, 3, 0, 4, 2], filledFrom: 0)
            var range = 1..<4
            pieces.list.keepFirst(count, of: &range)
            #expect(pieces.bytes(of: range) == (2..<2 + min(count, 7)).map { UInt8($0) })
            #expect(pieces.bytes(of: 0..<1) == [0, 1])
            #expect(pieces.bytes(of: 4..<5) == [9, 10])
            #expect(range.lowerBound == 1)
        }
    }
}

@Suite("A slice of pieces")
struct IOVectorSliceTests {
    private static let shapes = [[8], [1, 7], [3, 0, 5], [1, 1, 1, 1, 1, 1, 1, 1], [4, 4], []]

    @Test("copies bytes out from every place, as many as there are", arguments: shapes)
    func copiesOut(_ lengths: [Int]) {
        let pieces = Pieces(lengths, filledFrom: 1)
        let total = lengths.reduce(0, +)
        for offset in 0...9 {
            for count in 0...9 {
                var bytes = [UInt8](repeating: 0, count: count)
                var span = bytes.mutableSpan
                var raw = unsafe span.mutableBytes
                let copied = pieces.list.all.copyBytes(into: &raw, from: offset)
                let expected = max(0, min(count, total - offset))
                #expect(copied == expected)
                #expect(bytes.prefix(expected) == pieces.bytes.dropFirst(offset).prefix(expected))
            }
        }
    }

    @Test("copies bytes in at every place and touches no other byte", arguments: shapes)
    func copiesIn(_ lengths: [Int]) {
        let total = lengths.reduce(0, +)
        for offset in 0...9 {
            for count in 0...9 {
                let pieces = Pieces(lengths)
                let bytes = [UInt8](repeating: 7, count: count)
                let copied = unsafe pieces.list.all.store(bytes: bytes.span.bytes, at: offset)
                let expected = max(0, min(count, total - offset))
                #expect(copied == expected)
                var whole = [UInt8](repeating: 0, count: total)
                for index in 0..<expected { whole[offset + index] = 7 }
                #expect(pieces.bytes == whole)
                #expect(pieces.guardsAreWhole)
            }
        }
    }

    @Test("clears bytes at every place and touches no other byte", arguments: shapes)
    func clears(_ lengths: [Int]) {
        let total = lengths.reduce(0, +)
        for offset in 0...9 {
            let pieces = Pieces(lengths, filledFrom: 1)
            let cleared = pieces.list.all.storeZeroes(at: offset, byteCount: 3)
            #expect(cleared == max(0, min(3, total - offset)))
            var whole = (0..<total).map { UInt8($0 + 1) }
            for index in 0..<cleared { whole[offset + index] = 0 }
            #expect(pieces.bytes == whole)
            #expect(pieces.guardsAreWhole)
        }
    }

    @Test("loads and stores values wherever they are split", arguments: shapes)
    func values(_ lengths: [Int]) {
        let total = lengths.reduce(0, +)
        for offset in 0...9 {
            let pieces = Pieces(lengths)
            let fits = offset + 4 <= total
            #expect(pieces.list.all.store(UInt32(littleEndian: 0x0403_0201), at: offset) == fits)
            let loaded = pieces.list.all.load(UInt32.self, at: offset)
            #expect(loaded == (fits ? UInt32(littleEndian: 0x0403_0201) : nil))
            if fits { #expect(Array(pieces.bytes[offset..<offset + 4]) == [1, 2, 3, 4]) }
            #expect(pieces.guardsAreWhole)
        }
    }

    @Test("tells whether every piece is aligned in address and length")
    func alignment() {
        unsafe withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 4096) { buffer in
            guard let base = buffer.baseAddress else { return }
            func isAligned(_ pieces: [(Int, Int)]) -> Bool {
                var list = IOVectorArray(capacity: 4)
                for (offset, count) in pieces {
                    unsafe list.append(base + offset, byteCount: count)
                }
                return list.all.isAligned(address: 512, length: 1024)
            }
            #expect(isAligned([]))
            #expect(isAligned([(0, 1024), (512, 2048)]))
            #expect(!isAligned([(0, 1024), (256, 1024)]))
            #expect(!isAligned([(0, 1024), (512, 512)]))
            #expect(!isAligned([(1, 1024)]))
        }
    }
}
