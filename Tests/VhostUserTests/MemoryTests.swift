// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import LinuxIO
import Sessions
import Testing
import Virtio

@testable import VhostUser

@Suite("The memory of a session", .everyPlacement)
struct SessionMemoryTests {
    /// A guest with two regions; the rings lie in the first, buffers where the test puts them.
    private func guest(_ vmm: KnownVMM = .qemuTenSCSI) throws -> Guest {
        let memory = try TestMemory([
            TestMemory.Region(at: 0x10_0000, byteCount: 4 << 20),
            TestMemory.Region(at: 0x100_0000, byteCount: 4 << 20, fileOffset: 0x3000),
        ])
        return try Guest(try BackEnd(), try vmm.make(), memory: memory)
    }

    private func chain(_ memory: TestMemory, _ region: Int) -> Chain {
        let source = memory.allocate(byteCount: 32, inRegion: region)
        let target = memory.allocate(byteCount: 32, inRegion: region)
        memory.fill(0x5a, at: source, count: 32)
        return Chain(
            readable: [Segment(at: source, byteCount: 32)],
            writable: [Segment(at: target, byteCount: 32)])
    }

    @Test("can lose a region while rings run that do not use it")
    func removal() throws {
        let guest = try guest()
        try guest.start()
        let region = guest.memory.regions[1]
        for _ in 0..<20 {
            guest.rings[0].driver.offer(chain(guest.memory, 1))
            try guest.backEnd.turn()
            #expect(try guest.echoes() == [[UInt8](repeating: 0x5a, count: 32)])
            try guest.frontEnd.require(.removeMemoryRegion(region))
            #expect(try guest.echo([1]) == [[1]])
            try guest.frontEnd.require(.addMemoryRegion(guest.memory, 1))
            #expect(try guest.echo([2]) == [[2]])
        }
        #expect(guest.memory.canariesAreIntact)
    }

    @Test("keeps a region until nothing in flight refers to it")
    func removalUnderLoad() throws {
        let guest = try guest()
        try guest.start()
        guest.backEnd.device.holds = true
        guest.rings[0].driver.offer(chain(guest.memory, 1))
        try guest.backEnd.turn()
        try guest.frontEnd.send(.removeMemoryRegion(guest.memory.regions[1]), flags: 0x9)
        try guest.backEnd.turn()
        #expect(try guest.frontEnd.readReply(within: .zero) == nil)
        guest.backEnd.device.complete()
        #expect(try guest.frontEnd.readReply(to: 38).integer == 0)
        #expect(try guest.echoes() == [[UInt8](repeating: 0x5a, count: 32)])
    }

    @Test("refuses to lose a region that the device cannot let go of, and keeps it mapped")
    func removalOfHungRegion() throws {
        let guest = try guest()
        try guest.start()
        guest.backEnd.device.holds = true
        guest.backEnd.device.obeysExpedite = false
        guest.rings[0].driver.offer(chain(guest.memory, 1))
        try guest.backEnd.turn()
        let message = FrontEndMessage.removeMemoryRegion(guest.memory.regions[1])
        try guest.frontEnd.send(message, flags: 0x9)
        try guest.backEnd.turn()
        try guest.backEnd.advance(by: .seconds(10))
        #expect(try guest.frontEnd.readReply(to: 38).integer != 0)
        // Writing to it now ends nothing but the request.
        guest.backEnd.device.complete()
        #expect(try guest.frontEnd.acknowledgement(of: message) == 0)
    }

    @Test("is exchanged whole while requests that cannot end keep the old one")
    func exchangeUnderHungLoad() throws {
        let guest = try guest(.crosvm)
        try guest.start()
        guest.backEnd.device.holds = true
        guest.backEnd.device.obeysExpedite = false
        try guest.offer([1])
        try guest.frontEnd.send(.setMemoryTable(guest.memory))
        try guest.backEnd.turn()
        try guest.backEnd.advance(by: .seconds(10))
        try guest.frontEnd.synchronize()
        #expect(guest.backEnd.server.orphanCount == 1)
        guest.backEnd.device.complete()
        try guest.backEnd.turn()
        #expect(guest.backEnd.server.orphanCount == 0)
    }

    @Test("knows a region by its addresses and its size, not by its place in a file")
    func regionIdentity() throws {
        let guest = try guest()
        try guest.start()
        let frontEnd = guest.frontEnd
        for change in [
            { (region: inout TestMemory.Region) in region.guestAddress += 0x1000 },
            { region in region.frontEndAddress += 0x1000 },
            { region in region.byteCount -= 0x1000 },
        ] {
            var region = guest.memory.regions[1]
            change(&region)
            #expect(try frontEnd.acknowledgement(of: .removeMemoryRegion(region)) != 0)
        }
        var region = guest.memory.regions[1]
        region.fileOffset = 0
        let descriptor = guest.memory.rawDescriptor(ofRegion: 1)
        #expect(
            try frontEnd.acknowledgement(
                of: .removeMemoryRegion(region, descriptors: [descriptor])) == 0)
        #expect(try frontEnd.acknowledgement(of: .removeMemoryRegion(region)) != 0)
    }

    @Test("may move in the front-end's address space while rings run")
    func moved() throws {
        let guest = try guest(.cloudHypervisor)
        try guest.start()
        #expect(try guest.echo([1]) == [[1]])
        var message = FrontEndMessage.setMemoryTable(guest.memory)
        for (index, region) in guest.memory.regions.enumerated() {
            let place = 8 + 32 * index + 16
            message.payload.replaceSubrange(
                place..<place + 8, with: FrontEndMessage.bytes(region.frontEndAddress + 0x1000_0000)
            )
        }
        try guest.frontEnd.require(message)
        // The ring's addresses are the old ones: it waits until they fit again.
        #expect(try guest.echo([2]) == [])
        try guest.frontEnd.require(.setMemoryTable(guest.memory))
        try guest.backEnd.turn()
        #expect(try guest.echoes() == [[2]])
    }

    @Test("brings a ring to a halt that lay in a region that went, until it comes back")
    func ringRegion() throws {
        let guest = try guest()
        try guest.start()
        try guest.frontEnd.require(.setRingError(0, guest.rings[0].error.rawDescriptor))
        try guest.frontEnd.require(.removeMemoryRegion(guest.memory.regions[0]))
        try guest.backEnd.turn()
        #expect(guest.rings[0].error.take() == 0)
        guest.rings[0].kick.raise()
        try guest.backEnd.turn()
        #expect(guest.rings[0].error.take() == 1)
        #expect(guest.backEnd.log.lines(saying: "outside the shared memory").count == 1)
        try guest.frontEnd.require(.addMemoryRegion(guest.memory, 0))
        #expect(try guest.echo([3]) == [[3]])
    }

    @Test("takes 509 regions and more, as QEMU may have them")
    func manyRegions() throws {
        let guest = try Guest(try BackEnd())
        let slots = try guest.frontEnd.ask(.getMemorySlotCount).integer
        #expect(slots == 509)
        let memory = try TestMemory(
            (0..<UInt64(509)).map { TestMemory.Region(at: $0 << 20, byteCount: 1 << 16) })
        for index in memory.regions.indices {
            try guest.frontEnd.require(.addMemoryRegion(memory, index))
        }
        for region in memory.regions.reversed() {
            try guest.frontEnd.require(.removeMemoryRegion(region))
        }
    }

    @Test("refuses regions that cannot be, and keeps what it has")
    func illegalRegions() throws {
        let guest = try guest()
        try guest.start()
        let region = guest.memory.regions[0]
        func attempt(_ change: (inout TestMemory.Region) -> Void) throws -> UInt64 {
            var changed = TestMemory.Region(at: 0x4000_0000, byteCount: 1 << 20)
            change(&changed)
            var message = FrontEndMessage.addMemoryRegion(guest.memory, 0)
            message.payload = [UInt8](repeating: 0, count: 8)
            for value in [
                changed.guestAddress, changed.byteCount, changed.frontEndAddress,
                changed.fileOffset,
            ] {
                message.payload += FrontEndMessage.bytes(value)
            }
            return try guest.frontEnd.acknowledgement(of: message)
        }
        #expect(try attempt { $0.byteCount = 0 } != 0)
        #expect(try attempt { $0.byteCount = 1 << 63 } != 0)
        #expect(try attempt { $0.byteCount = (4 << 20) + 1 } != 0)
        #expect(try attempt { $0.guestAddress = .max - 0xfff } != 0)
        #expect(try attempt { $0.frontEndAddress = .max - 0xfff } != 0)
        #expect(try attempt { $0.fileOffset = .max - 0xfff } != 0)
        #expect(try attempt { $0.fileOffset = 4 << 20 } != 0)
        #expect(try attempt { $0.guestAddress = region.guestAddress + 0x1000 } != 0)
        #expect(try attempt { _ in } == 0)
        #expect(try guest.echo([1]) == [[1]])
    }

    @Test("refuses descriptors that cannot be mapped")
    func illegalDescriptors() throws {
        let guest = try guest()
        let pipe = try Pipe()
        let signal = try Signal()
        for descriptor in [pipe.readingEnd.rawValue, signal.rawDescriptor] {
            var message = FrontEndMessage.addMemoryRegion(guest.memory, 0)
            message.descriptors = [descriptor]
            #expect(try guest.frontEnd.acknowledgement(of: message) != 0)
        }
    }

    @Test("survives the end of the rings, and the reset of the device")
    func survival() throws {
        let guest = try guest()
        try guest.start()
        for _ in 0..<5 {
            try guest.stop()
            if let qemu = guest.vmm as? QEMU { try qemu.reset(guest.frontEnd) }
            try guest.frontEnd.send(.resetOwner)
            for ring in guest.rings {
                ring.driver.reset(start: 0)
                ring.base = ring.driver.configuration.base
            }
            // QEMU never sends memory slots again.
            try guest.start()
            #expect(try guest.echo([1]) == [[1]])
        }
    }
}

@Suite("A front-end that shares no memory", .everyPlacement)
struct NoSharedMemoryTests {
    private let advice =
        "front-end shared no memory: add "
        + "<memoryBacking><source type='memfd'/><access mode='shared'/>"

    @Test("is told how to, when the ring's addresses come")
    func diagnosis() throws {
        let guest = try Guest(try BackEnd())
        let frontEnd = guest.frontEnd
        try frontEnd.require(.setFeatures(1 << 32 | 1 << 30))
        let ring = guest.rings[0]
        try frontEnd.require(.setRingSize(0, 16))
        #expect(try frontEnd.acknowledgement(of: ring.addressMessage()) != 0)
        #expect(guest.backEnd.log.lines(saying: advice).count == 1)
    }

    @Test("goes on without an acknowledgement, and works as soon as memory comes")
    func laterMemory() throws {
        let guest = try Guest(try BackEnd(), try KnownVMM.qemuSevenSCSI.make())
        let frontEnd = guest.frontEnd
        let ring = guest.rings[0]
        try frontEnd.send(.setFeatures(guest.rings[0].driver.features | 1 << 30))
        for message in [
            FrontEndMessage.setRingSize(0, 16), .setRingBase(0, ring.base), ring.addressMessage(),
            .setRingError(0, ring.error.rawDescriptor), .setRingCall(0, ring.call.rawDescriptor),
            .setRingKick(0, ring.kick.rawDescriptor), .setRingEnable(0, true),
        ] {
            try frontEnd.send(message)
        }
        try frontEnd.synchronize()
        try guest.backEnd.turn()
        #expect(ring.error.take() >= 1)
        #expect(guest.backEnd.log.lines(saying: advice).count <= 3)
        try frontEnd.require(.addMemoryRegion(guest.memory, 0))
        #expect(try guest.echo([8]) == [[8]])
    }
}
