// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import SCSI
import Stores
import Testing

@Suite("UNMAP and WRITE SAME")
struct ProvisioningTests {
    /// An UNMAP parameter list.
    static func list(_ extents: [(UInt64, UInt32)]) -> [UInt8] {
        var bytes: [UInt8] = []
        for (first, count) in extents {
            bytes += (0..<8).map { UInt8(truncatingIfNeeded: first >> (56 - 8 * $0)) }
            bytes += (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) }
            bytes += [0, 0, 0, 0]
        }
        let length = bytes.count
        func number(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }
        return number(length + 6) + number(length) + [0, 0, 0, 0] + bytes
    }

    static func unmap(_ initiator: Initiator, _ list: [UInt8]) -> Initiator.Answer {
        let length = [UInt8(list.count >> 8), UInt8(list.count & 0xFF)]
        return initiator.send([0x42, 0, 0, 0, 0, 0, 0] + length + [0], out: list)
    }

    @Test("frees the blocks of every descriptor")
    func unmap() {
        let initiator = Initiator()
        for block: UInt64 in 0..<32 { initiator.store[block] = [UInt8](repeating: 1, count: 512) }
        let answer = Self.unmap(initiator, Self.list([(2, 3), (20, 1), (7, 0), (2048, 0)]))
        #expect(answer.status == .good && answer.residual == 0)
        #expect(initiator.store.allocatedBlockCount == 28)
        #expect(initiator.store[4] == [UInt8](repeating: 0, count: 512))
        #expect(initiator.store[5] == [UInt8](repeating: 1, count: 512))
    }

    @Test("of nothing succeeds")
    func nothing() {
        let initiator = Initiator()
        #expect(initiator.send([0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0]).status == .good)
        #expect(Self.unmap(initiator, Self.list([])).status == .good)
        #expect(initiator.store.log.isEmpty)
    }

    @Test("refuses what is out of range, too much or cut off")
    func refusals() {
        let initiator = Initiator()
        #expect(Self.unmap(initiator, Self.list([(2047, 2)])).fixedSense == [5, 0x21, 0])
        #expect(Self.unmap(initiator, Self.list([(.max, 1)])).fixedSense == [5, 0x21, 0])
        let many = Self.list((0..<257).map { (UInt64($0), 1) })
        #expect(Self.unmap(initiator, many).fixedSense == [5, 0x26, 0])
        #expect(Self.unmap(initiator, [0, 6, 0]).fixedSense == [5, 0x1A, 0])
        #expect(initiator.store.log.isEmpty)
    }

    @Test("takes 256 descriptors of 1048576 blocks together, and no more (5/26/00)")
    func most() {
        let initiator = Initiator(blockCount: 1 << 21)
        let most = Self.list((0..<256).map { (UInt64($0) * 8192, 4096) })
        #expect(Self.unmap(initiator, most).status == .good)
        #expect(initiator.store.log.count == 256)
        let more = Self.list((0..<255).map { (UInt64($0) * 8192, 4096) } + [(0, 4097)])
        #expect(Self.unmap(initiator, more).fixedSense == [5, 0x26, 0])
        #expect(initiator.store.log.count == 256)
    }

    @Test("ignores a descriptor that was cut off")
    func cutDescriptor() {
        let initiator = Initiator()
        let list = Self.list([(2, 3), (20, 1)])
        #expect(Self.unmap(initiator, Array(list.dropLast())).status == .good)
        #expect(initiator.store.log.map(\.byteCount) == [3 * 512])
    }

    @Test("is durable without a write cache, whether it clears or writes")
    func writeThrough() {
        let initiator = Initiator()
        let list: [UInt8] = [0, 0, 0, 0, 0x08, 0x12] + [UInt8](repeating: 0, count: 18)
        initiator.send([0x15, 0x10, 0, 0, 24, 0], out: list)
        let block = [UInt8](repeating: 7, count: 512)
        #expect(initiator.send(VerifyTests.cdb(0x93, 0x01)).status == .good)
        #expect(initiator.send(VerifyTests.cdb(0x93), out: block).status == .good)
        #expect(
            initiator.store.log.map(\.operation) == [
                .flush, .writeZeroes(mayFree: false), .flush, .write(isDurable: true),
            ])
    }

    @Test("is not there on a disk that cannot free (5/20/00)")
    func thick() {
        let initiator = Initiator(isThin: false)
        #expect(Self.unmap(initiator, Self.list([(2, 3)])).fixedSense == [5, 0x20, 0])
        let block = [UInt8](repeating: 0, count: 512)
        let writeSame: [UInt8] = [0x41, 0x08, 0, 0, 0, 5, 0, 0, 4, 0]
        #expect(initiator.send(writeSame, out: block).fixedSense == [5, 0x24, 0])
    }

    @Test("fills blocks with one block", arguments: [0x41, 0x93] as [UInt8])
    func writeSame(code: UInt8) {
        let initiator = Initiator()
        let block = (0..<512).map { UInt8(truncatingIfNeeded: $0) }
        let cdb = VerifyTests.cdb(code, count: 4)
        let answer = initiator.send(cdb, out: block)
        #expect(answer.status == .good && answer.residual == 0)
        #expect(initiator.store.allocatedBlockCount == 4)
        #expect(initiator.store[8] == block)
    }

    @Test("clears by the store's own means, and may free")
    func zeroes() {
        let initiator = Initiator()
        let block = [UInt8](repeating: 0, count: 512)
        initiator.send(VerifyTests.cdb(0x93, count: 4), out: block)
        initiator.send(VerifyTests.cdb(0x93, 0x08, count: 4), out: block)
        initiator.send(VerifyTests.cdb(0x93, 0x01, count: 4))
        initiator.send(VerifyTests.cdb(0x93, 0x09, count: 4))
        #expect(
            initiator.store.log.map(\.operation) == [
                .writeZeroes(mayFree: false), .writeZeroes(mayFree: true),
                .writeZeroes(mayFree: false), .writeZeroes(mayFree: true),
            ])
    }

    @Test("writes zeroes where the store cannot clear")
    func unsupported() {
        let initiator = Initiator()
        initiator.store[6] = [UInt8](repeating: 1, count: 512)
        initiator.store.failure = { request in
            if case .writeZeroes = request.operation { .unsupported } else { nil }
        }
        #expect(initiator.send(VerifyTests.cdb(0x93, 0x01, count: 4)).status == .good)
        #expect(initiator.store[6] == [UInt8](repeating: 0, count: 512))
    }

    @Test("of no blocks, and of more than the limit, is refused (5/24/00)")
    func limits() {
        let initiator = Initiator(blockCount: 1 << 20)
        let block = [UInt8](repeating: 7, count: 512)
        #expect(
            initiator.send(VerifyTests.cdb(0x41, count: 0), out: block).fixedSense == [5, 0x24, 0])
        let most: [UInt8] = [0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0]
        #expect(initiator.send(most).status == .good)
        let more: [UInt8] = [0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
        #expect(initiator.send(more).fixedSense == [5, 0x24, 0])
    }

    @Test("are seen by GET LBA STATUS")
    func blockStatus() {
        let initiator = Initiator()
        for block: UInt64 in 10..<14 { initiator.store[block] = [UInt8](repeating: 1, count: 512) }
        let cdb: [UInt8] = [0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0]
        let answer = initiator.send(cdb, in: 256)
        #expect(
            answer.data == [0, 0, 0, 52, 0, 0, 0, 0]
                + [0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 2, 1, 0, 0, 0]
                + [0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 4, 0, 0, 0, 0]
                + [0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 7, 0xF2, 1, 0, 0, 0])
        var one = cdb
        one[12] = 0
        one[13] = 24
        #expect(initiator.send(one, in: 24).data == [0, 0, 0, 20] + answer.data[4..<24])
        let beyond: [UInt8] = [0x9E, 0x12, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 24, 0, 0]
        #expect(initiator.send(beyond, in: 24).fixedSense == [5, 0x21, 0])
    }

    @Test("refuses ANCHOR, half a block and two blocks")
    func writeSameRefusals() {
        let initiator = Initiator()
        let block = [UInt8](repeating: 7, count: 512)
        let anchor = VerifyTests.cdb(0x93, 0x10)
        #expect(initiator.send(anchor, out: block).fixedSense == [5, 0x24, 0])
        let cdb = VerifyTests.cdb(0x93)
        #expect(initiator.send(cdb, out: Array(block[..<256])).fixedSense == [5, 0x24, 0])
        #expect(initiator.send(cdb, out: block + block).fixedSense == [5, 0x24, 0])
        #expect(initiator.store.log.isEmpty)
    }
}
