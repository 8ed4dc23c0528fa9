// SPDX-License-Identifier: Apache-2.0

/// The three parts of a ring, checked and mapped.
struct RingAreas {
    let descriptor: SharedArea
    let driver: SharedArea
    let device: SharedArea

    /// Finds the parts in guest memory.
    ///
    /// - Throws: a part is misaligned, or not all in one region.
    init(
        _ configuration: VirtqueueConfiguration, memory: PinnedReference<RegionTable>
    ) throws(VirtqueueError) {
        let layout = Layout(configuration)
        func map(
            _ area: VirtqueueError.Area, _ address: GuestAddress, _ part: (byteCount: Int, Int)
        ) throws(VirtqueueError) -> SharedArea {
            guard address.rawValue % UInt64(part.1) == 0 else {
                throw .misalignedArea(area, address, alignment: part.1)
            }
            guard let found = memory.value.area(address.rawValue, byteCount: part.byteCount)
            else {
                throw .areaOutsideMemory(area, address, byteCount: part.byteCount)
            }
            // The front-end may have mapped the region at an odd offset of its file.
            guard found.isAligned(to: part.1) else {
                throw .misalignedArea(area, address, alignment: part.1)
            }
            return found
        }
        descriptor = try map(.descriptor, configuration.descriptorArea, layout.descriptor)
        driver = try map(.driver, configuration.driverArea, layout.driver)
        device = try map(.device, configuration.deviceArea, layout.device)
    }

    /// Bytes and alignment of each part (virtio 1.3 §2.7, §2.8.10.1).
    private struct Layout {
        let descriptor: (Int, Int)
        let driver: (Int, Int)
        let device: (Int, Int)

        init(_ configuration: VirtqueueConfiguration) {
            let size = configuration.size
            descriptor = (16 * size, 16)
            if configuration.features.contains(.ringPacked) {
                driver = (4, 4)
                device = (4, 4)
            } else {
                // The last field of either is only there with VIRTIO_F_EVENT_IDX; drivers that do
                // not negotiate it may not have allocated it.
                let event = configuration.features.contains(.eventIndex) ? 2 : 0
                driver = (4 + 2 * size + event, 2)
                device = (4 + 8 * size + event, 4)
            }
        }
    }
}
