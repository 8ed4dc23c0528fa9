// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing
import Virtio

@Suite("The configuration of a ring")
struct ConfigurationTests {
    private let memory: TestMemory
    private let deviceMemory: GuestMemory

    init() throws {
        memory = try TestMemory([
            .init(at: 0x10_0000, byteCount: 1 << 20), .init(at: 0x20_0000, byteCount: 1 << 20),
            .init(at: 0xFFFF_FFFF_FFFF_0000, byteCount: 0x1_0000 - 1),
        ])
        deviceMemory = try memory.deviceMemory()
    }

    private func start(_ configuration: VirtqueueConfiguration) throws(VirtqueueError) {
        _ = try Virtqueue(configuration, memory: deviceMemory, notifier: nil)
    }

    @Test(
        "is refused with an illegal size",
        arguments: RingFormat.allCases, [0, -1, 32769, 65536, Int.max, Int.min])
    func illegalSize(format: RingFormat, size: Int) throws {
        var configuration = format.makeDriver(in: memory, RingOptions(size: 4)).configuration
        configuration.size = size
        #expect(throws: VirtqueueError.illegalSize(size)) { try start(configuration) }
    }

    @Test("knows which sizes are legal: powers of two if split, any if packed")
    func sizes() throws {
        for format in RingFormat.allCases {
            var configuration = format.makeDriver(in: memory, RingOptions(size: 1024)).configuration
            for size in 1...1024 {
                configuration.size = size
                configuration.base = format == .split ? 0 : 0x8000_8000
                if format == .packed || size & (size - 1) == 0 {
                    try start(configuration)
                } else {
                    #expect(throws: VirtqueueError.illegalSize(size)) { try start(configuration) }
                }
            }
        }
    }

    @Test("is refused with a part that is not aligned (virtio 1.3 §2.7, §2.8.10.1)")
    func misaligned() throws {
        let split = SplitDriver(in: memory, RingOptions(size: 4)).configuration
        let packed = PackedDriver(in: memory, RingOptions(size: 4)).configuration
        let cases: [(VirtqueueConfiguration, [UInt64])] = [
            (split, [16, 2, 4]), (packed, [16, 4, 4]),
        ]
        for (configuration, alignments) in cases {
            for (part, alignment) in zip(Part.allCases, alignments) {
                for delta in 1..<alignment {
                    #expect(throws: VirtqueueError.self) {
                        try start(part.move(configuration, by: delta))
                    }
                }
                try start(part.move(configuration, by: alignment))
            }
        }
    }

    @Test(
        "is refused with a part that lies in no region, or in two",
        arguments: RingFormat.allCases,
        [0, 0x20_0000 - 16, 0x30_0000, 1 << 63, 0xFFFF_FFFF_FFFF_FFF0] as [UInt64])
    func outside(format: RingFormat, address: UInt64) throws {
        for part in Part.allCases { try expectOutside(format, part, address) }
    }

    private func expectOutside(_ format: RingFormat, _ part: Part, _ address: UInt64) throws {
        let driver = format.makeDriver(in: memory, RingOptions(size: 64))
        // The event structures of a packed ring fit in any sixteen bytes.
        let fits =
            format == .packed && part != .descriptor
            && [0x20_0000 - 16, 0xFFFF_FFFF_FFFF_FFF0].contains(address)
        let configuration = part.move(driver.configuration, to: address)
        if fits {
            try start(configuration)
        } else {
            #expect(throws: VirtqueueError.self) { try start(configuration) }
        }
    }

    @Test("is accepted with parts that end where a region ends")
    func atTheEnd() throws {
        let split = SplitDriver(in: memory, RingOptions(size: 4)).configuration
        let packed = PackedDriver(in: memory, RingOptions(size: 4)).configuration
        for (configuration, sizes) in [
            (split, [64, 6 + 8, 6 + 32]), (packed, [64, 4, 4]),
        ] as [(VirtqueueConfiguration, [UInt64])] {
            for (part, size) in zip(Part.allCases, sizes) {
                let alignment: UInt64 = part == .descriptor ? 16 : 4
                let address = (0x30_0000 - size) & ~(alignment - 1)
                try start(part.move(configuration, to: address))
                #expect(throws: VirtqueueError.self) {
                    try start(part.move(configuration, to: address + alignment))
                }
            }
        }
    }

    @Test("of a packed ring is refused with a base outside the ring")
    func packedBase() throws {
        let driver = PackedDriver(in: memory, RingOptions(size: 5))
        var configuration = driver.configuration
        for index: UInt32 in [5, 6, 0x7FFF] {
            for wrap: UInt32 in [0, 0x8000] {
                configuration.base = (0x8000 << 16) | index | wrap
                #expect(throws: VirtqueueError.self) { try start(configuration) }
            }
        }
    }

    /// One of the three parts of a ring.
    enum Part: CaseIterable {
        case descriptor
        case driver
        case device

        func move(
            _ configuration: VirtqueueConfiguration, by delta: UInt64
        ) -> VirtqueueConfiguration {
            move(configuration, to: configuration[keyPath: path].rawValue + delta)
        }

        func move(
            _ configuration: VirtqueueConfiguration, to address: UInt64
        ) -> VirtqueueConfiguration {
            var moved = configuration
            moved[keyPath: path] = GuestAddress(address)
            return moved
        }

        private var path: WritableKeyPath<VirtqueueConfiguration, GuestAddress> {
            switch self {
            case .descriptor: \.descriptorArea
            case .driver: \.driverArea
            case .device: \.deviceArea
            }
        }
    }
}
