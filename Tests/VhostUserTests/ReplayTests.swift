// SPDX-License-Identifier: Apache-2.0

import Driver
import FrontEnd
import Sessions
import Testing
import Virtio

/// Every front-end that is known to speak to this back-end.
enum KnownVMM: CaseIterable {
    case qemuSevenSCSI
    case qemuSevenVsock
    case qemuTenSCSI
    case qemuTenVsock
    case qemuTenTwoSCSI
    case userModeLinux
    case spdk
    case cloudHypervisor
    case crosvm

    func make() throws -> any VMM {
        switch self {
        case .qemuSevenSCSI: try QEMU(.seven, .scsi)
        case .qemuSevenVsock: try QEMU(.seven, .vsock)
        case .qemuTenSCSI: try QEMU(.ten, .scsi)
        case .qemuTenVsock: try QEMU(.ten, .vsock)
        case .qemuTenTwoSCSI: try QEMU(.tenTwo, .scsi)
        case .userModeLinux: try UserModeLinux()
        case .spdk: SPDKInitiator()
        case .cloudHypervisor: try CloudHypervisor()
        case .crosvm: try Crosvm()
        }
    }

    /// Whether stopping a ring says where to go on.
    var keepsBases: Bool { self != .userModeLinux && self != .spdk }
    /// SPDK and crosvm drive split rings alone.
    var formats: [RingFormat] {
        self == .spdk || self == .crosvm ? [.split] : RingFormat.allCases
    }

    static var withFormats: [(KnownVMM, RingFormat)] {
        allCases.flatMap { vmm in vmm.formats.map { (vmm, $0) } }
    }
}

@Suite("The orders of known front-ends", .everyPlacement)
struct ReplayTests {
    @Test("serve a first request", arguments: KnownVMM.withFormats)
    func firstRequest(_ vmm: KnownVMM, _ format: RingFormat) throws {
        let guest = try Guest(try BackEnd(), try vmm.make(), format: format)
        try guest.start()
        for index in guest.rings.indices {
            let bytes = Guest.pattern(index)
            #expect(try guest.echo(bytes, ring: index) == [bytes])
        }
    }

    @Test("signal the driver", arguments: KnownVMM.withFormats)
    func signals(_ vmm: KnownVMM, _ format: RingFormat) throws {
        let guest = try Guest(try BackEnd(), try vmm.make(), format: format)
        try guest.start()
        guest.rings[0].driver.requestSignals()
        _ = guest.rings[0].call.take()
        try guest.offer([1, 2, 3])
        if let linux = guest.vmm as? UserModeLinux {
            #expect(linux.callPipes[0]?.take() == [1, 0, 0, 0, 0, 0, 0, 0])
        } else {
            #expect(guest.rings[0].call.take() == 1)
        }
    }

    @Test(
        "stop, and go on where they were",
        arguments: KnownVMM.withFormats.filter { $0.0.keepsBases })
    func stopAndContinue(_ vmm: KnownVMM, _ format: RingFormat) throws {
        let guest = try Guest(try BackEnd(), try vmm.make(), format: format)
        for round in 0..<50 {
            try guest.start()
            let bytes = Guest.pattern(round)
            #expect(try guest.echo(bytes) == [bytes], "round \(round)")
            try guest.stop()
            #expect(guest.rings[0].base == guest.rings[0].driver.configuration.base)
        }
        #expect(guest.backEnd.device.takeEvents().filter { $0 == "reset" }.count <= 1)
    }

    @Test("stop and go on a thousand times with buffers in flight", arguments: RingFormat.allCases)
    func stopUnderLoad(_ format: RingFormat) throws {
        let guest = try Guest(
            try BackEnd(), try QEMU(.ten, .scsi), format: format, options: RingOptions(size: 64))
        let driver = guest.rings[0].driver
        guest.backEnd.device.holds = true
        var returned: [Int] = []
        for round in 0..<1000 {
            try guest.start()
            for number in 0..<3 {
                let bytes = Guest.pattern(3 * round + number)
                driver.offer(
                    readable: [bytes], writable: [bytes.count], tag: 3 * round + number)
            }
            // In every second round they are still in the ring when it stops.
            if round % 2 == 0 { try guest.backEnd.turn() }
            guest.backEnd.device.holds = false
            guest.backEnd.device.complete()
            try guest.stop()
            guest.backEnd.device.holds = true
            for buffer in try driver.reapAll() {
                returned.append(buffer.tag)
                #expect(driver.writtenBytes(of: buffer) == Guest.pattern(buffer.tag))
                driver.memory.free(buffer.chain)
            }
        }
        try guest.start()
        guest.backEnd.device.complete()
        returned += try driver.reapAll().map(\.tag)
        #expect(returned == Array(0..<3000))
    }

    @Test("serve rings of every legal size", arguments: [2, 4, 256, 1024, 32768], [0, 65533])
    func sizes(_ size: Int, _ start: UInt32) throws {
        for format in RingFormat.allCases {
            let memory = try TestMemory(byteCount: 16 << 20)
            let options = RingOptions(size: size, start: start % UInt32(max(size, 65536)))
            let guest = try Guest(
                try BackEnd(), format: format, ringCount: 1, options: options, memory: memory)
            try guest.start()
            for value in 0..<10 as Range<UInt8> { #expect(try guest.echo([value]) == [[value]]) }
            try guest.stop()
            #expect(guest.rings[0].base == guest.rings[0].driver.configuration.base)
        }
    }

    @Test("start a second guest on fresh rings", arguments: KnownVMM.withFormats)
    func restart(_ vmm: KnownVMM, _ format: RingFormat) throws {
        let guest = try Guest(try BackEnd(), try vmm.make(), format: format)
        for round in 0..<3 {
            try guest.start()
            for index in guest.rings.indices {
                let bytes = Guest.pattern(round + index)
                #expect(try guest.echo(bytes, ring: index) == [bytes], "round \(round)")
            }
            try guest.stop()
            if let qemu = guest.vmm as? QEMU { try qemu.reset(guest.frontEnd) }
            _ = guest.backEnd.device.takeEvents()
            for ring in guest.rings {
                ring.driver.reset(start: 0)
                ring.base = ring.driver.configuration.base
            }
        }
        try guest.start()
        #expect(try guest.echo([9, 9, 9]) == [[9, 9, 9]])
    }

    @Test("reset the device when the driver begins again", arguments: KnownVMM.allCases)
    func driverReset(_ vmm: KnownVMM) throws {
        let guest = try Guest(try BackEnd(), try vmm.make())
        try guest.start()
        _ = try guest.echo([1])
        try guest.stop()
        _ = guest.backEnd.device.takeEvents()
        if let qemu = guest.vmm as? QEMU, vmm != .qemuSevenVsock { try qemu.reset(guest.frontEnd) }
        for ring in guest.rings {
            ring.driver.reset(start: 0)
            ring.base = ring.driver.configuration.base
        }
        try guest.start()
        let events = guest.backEnd.device.takeEvents()
        #expect(events.filter { $0 == "reset" }.count == 1, "\(events)")
        #expect(events.firstIndex(of: "reset") ?? .max < events.firstIndex(of: "features") ?? 0)
    }

    @Test("never ask for more than the device offers", arguments: KnownVMM.allCases)
    func minimalDevice(_ vmm: KnownVMM) throws {
        let backEnd = try BackEnd(features: [.version1])
        let guest = try Guest(
            backEnd, try vmm.make(),
            options: RingOptions(size: 16, indirect: false, eventIndex: false))
        try guest.start()
        #expect(try guest.echo([5]) == [[5]])
        #expect(backEnd.device.features?.contains(.ringPacked) == false)
    }
}
