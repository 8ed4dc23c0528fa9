// SPDX-License-Identifier: Apache-2.0

import Driver
import Glibc
import LinuxIO
import Testing
import Virtio

/// A region of the table, at the same address for the front-end.
private func region(_ address: UInt64, _ byteCount: UInt64) -> GuestMemory.Region {
    GuestMemory.Region(
        guestAddress: GuestAddress(address), frontEndAddress: address, byteCount: byteCount)
}

private func mapping(_ byteCount: UInt64) throws -> MappedRegion {
    let file = try OwnedDescriptor.memoryFile(name: "guest", byteCount: Int(byteCount))
    return try MappedRegion(file, offset: 0, byteCount: byteCount)
}

private func memory(_ regions: (UInt64, UInt64)...) throws -> GuestMemory {
    let memory = GuestMemory()
    for (address, byteCount) in regions {
        try memory.insert(region(address, byteCount), mapping: try mapping(byteCount))
    }
    return memory
}

/// How long the pieces of a stretch are; nil when it is not all there.
private func pieces(_ memory: GuestMemory, _ address: UInt64, _ byteCount: UInt64) -> [Int]? {
    var list = IOVectorArray(capacity: 1)
    guard memory.append(GuestAddress(address), byteCount: byteCount, to: &list) else {
        #expect(list.count == 0)
        return nil
    }
    return (0..<list.count).map { list.slice($0..<$0 + 1).byteCount }
}

@Suite("Guest memory")
struct GuestMemoryTests {
    @Test("translates within a region, to its last byte and no further")
    func oneRegion() throws {
        let memory = try memory((0x1000, 0x2000))
        #expect(pieces(memory, 0x1000, 0x2000) == [0x2000])
        #expect(pieces(memory, 0x2fff, 1) == [1])
        #expect(pieces(memory, 0x2fff, 2) == nil)
        #expect(pieces(memory, 0x3000, 1) == nil)
        #expect(pieces(memory, 0xfff, 1) == nil)
        #expect(pieces(memory, 0x1000, 0) == [])
    }

    @Test("splits a stretch where regions meet, and refuses one with a hole")
    func borders() throws {
        let memory = try memory((0x1000, 0x1000), (0x2000, 0x1000), (0x4000, 0x1000))
        #expect(pieces(memory, 0x1ff0, 0x20) == [0x10, 0x10])
        #expect(pieces(memory, 0x1000, 0x2000) == [0x1000, 0x1000])
        #expect(pieces(memory, 0x1000, 0x2001) == nil)
        #expect(pieces(memory, 0x2fff, 0x1002) == nil)
        #expect(memory.contains(GuestAddress(0x1800), byteCount: 0x1800))
        #expect(!memory.contains(GuestAddress(0x1800), byteCount: 0x1801))
    }

    @Test("holds a region that ends with the address space, and wraps around for nobody")
    func endOfAddressSpace() throws {
        let last = UInt64.max - 0xfff
        let memory = try memory((0, 0x1000), (last, 0x1000))
        #expect(pieces(memory, last, 0x1000) == [0x1000])
        #expect(pieces(memory, last, 0x1001) == nil)
        #expect(pieces(memory, UInt64.max, 2) == nil)
        #expect(pieces(memory, UInt64.max, UInt64.max) == nil)
        #expect(!memory.contains(GuestAddress(UInt64.max), byteCount: 2))
        #expect(
            throws: GuestMemoryError.regionPastEndOfAddressSpace(
                GuestAddress(last + 1), byteCount: 0x1000)
        ) { try memory.insert(region(last + 1, 0x1000), mapping: try mapping(0x1000)) }
    }

    @Test("refuses a region that is empty, overlaps, has too little memory, or is one too many")
    func refusals() throws {
        let memory = try memory((0x4000, 0x2000))
        func error(_ address: UInt64, _ byteCount: UInt64, mapped: UInt64? = nil) -> (any Error)? {
            do {
                try memory.insert(
                    region(address, byteCount), mapping: try mapping(mapped ?? byteCount))
                return nil
            } catch {
                return error
            }
        }
        func overlap(_ address: UInt64) -> GuestMemoryError {
            .overlap(GuestAddress(address), with: GuestAddress(0x4000))
        }
        #expect(
            error(0x1000, 0, mapped: 1) as? GuestMemoryError == .emptyRegion(GuestAddress(0x1000)))
        #expect(error(0x5000, 0x1000) as? GuestMemoryError == overlap(0x5000))
        #expect(error(0x5fff, 0x1000) as? GuestMemoryError == overlap(0x5fff))
        #expect(error(0x3000, 0x1001) as? GuestMemoryError == overlap(0x3000))
        #expect(error(0x3000, 0x9000) as? GuestMemoryError == overlap(0x3000))
        #expect(error(0x4000, 0x1000) as? GuestMemoryError == overlap(0x4000))
        #expect(
            error(0x8000, 0x2000, mapped: 0x1000) as? GuestMemoryError
                == .mappingTooShort(byteCount: 0x1000, regionByteCount: 0x2000))
        #expect(memory.regions == [region(0x4000, 0x2000)])
        for index in 1..<UInt64(512) { #expect(error(0x10000 * index, 1) == nil) }
        #expect(error(0x9999_0000, 1) as? GuestMemoryError == .tooManyRegions(limit: 512))
    }

    @Test("has views with the same regions, which know of later ones when they are told")
    func views() throws {
        let memory = try memory((0x4000, 0x2000), (0x8000, 0x1000))
        let view = memory.makeView()
        #expect(view.regions == memory.regions)
        #expect(pieces(view, 0x5000, 0x1000) == [0x1000])
        try memory.insert(region(0x6000, 0x2000), mapping: try mapping(0x2000))
        #expect(pieces(view, 0x5000, 0x2000) == nil)
        view.follow(memory.makeView())
        #expect(view.regions == memory.regions)
        #expect(pieces(view, 0x5000, 0x4000) == pieces(memory, 0x5000, 0x4000))
    }

    @Test("lives for as long as a view of it does")
    func keptByView() throws {
        var memory: GuestMemory? = try memory((0x4000, 0x1000))
        weak let kept = memory
        var view = memory?.makeView()
        var next = view?.makeView()
        memory = nil
        #expect(kept != nil)
        view = nil
        #expect(next.map { pieces($0, 0x4000, 0x1000) } == [0x1000])
        next = nil
        #expect(kept == nil)
    }

    @Test("finds every one of many regions, however they were inserted and removed")
    func manyRegions() throws {
        let memory = GuestMemory()
        let numbers = Array(UInt64(0)..<101)
        for step in numbers {
            let number = step * 37 % 101
            try memory.insert(region(0x10000 * number, 0x10 + number), mapping: try mapping(200))
        }
        #expect(memory.regions.map(\.guestAddress) == numbers.map { GuestAddress(0x10000 * $0) })
        for number in numbers where number % 3 == 0 {
            #expect(memory.remove(region(0x10000 * number, 0x10 + number)))
            #expect(!memory.remove(region(0x10000 * number, 0x10 + number)))
        }
        for number in numbers {
            let length = 0x10 + number
            let expected: [Int]? = number % 3 == 0 ? nil : [Int(length)]
            #expect(pieces(memory, 0x10000 * number, length) == expected)
            #expect(pieces(memory, 0x10000 * number, length + 1) == nil)
        }
        memory.removeAll()
        #expect(memory.regions == [])
        #expect(pieces(memory, 0x10000, 1) == nil)
    }

    @Test("finds the guest address of a stretch of the front-end's that one region holds")
    func frontEndAddresses() throws {
        let memory = GuestMemory()
        let high = GuestMemory.Region(
            guestAddress: GuestAddress(0x1_0000_0000), frontEndAddress: 0x7f00_0000,
            byteCount: 0x1000)
        try memory.insert(high, mapping: try mapping(0x1000))
        #expect(
            memory.guestAddress(ofFrontEndAddress: 0x7f00_0010, byteCount: 0xff0)
                == GuestAddress(0x1_0000_0010))
        #expect(memory.guestAddress(ofFrontEndAddress: 0x7f00_0010, byteCount: 0xff1) == nil)
        #expect(memory.guestAddress(ofFrontEndAddress: 0x7eff_ffff, byteCount: 2) == nil)
        #expect(memory.guestAddress(ofFrontEndAddress: 0x7f00_1000, byteCount: 0) == nil)
    }
}
