// SPDX-License-Identifier: Apache-2.0

import CGuest
import LinuxIO
import Virtio

/// Counts signals.
final class CountingNotifier: DriverNotifier {
    var count = 0
    func notifyDriver() { count &+= 1 }
}

/// A device that takes all there is and gives it back, over the Virtio module.
struct SwiftSide: ~Copyable {
    let queue: Virtqueue
    var pieces = IOVectorArray(capacity: 512)
    let buffers = UnsafeMutablePointer<Buffer>.allocate(capacity: 64)
    var sum: UInt64 = 0

    init(_ one: Case, _ guest: Guest, _ notifier: CountingNotifier) throws {
        var features: VirtioFeatures = [.version1, .eventIndex, .indirectDescriptors]
        if one.isPacked { features.insert(.ringPacked) }
        let configuration = VirtqueueConfiguration(
            size: GUEST_RING_SIZE,
            descriptorArea: guest.address(GUEST_DESCRIPTORS),
            driverArea: guest.address(GUEST_DRIVER_AREA),
            deviceArea: guest.address(GUEST_DEVICE_AREA), features: features,
            base: one.isPacked ? 0x8000_8000 : 0)
        queue = try Virtqueue(configuration, memory: guest.memory, notifier: notifier)
    }

    deinit { buffers.deallocate() }
}

/// Serves everything that is available; the loop that is measured, as `ref_process` is.
@c(swift_process)
@inline(never)
public func swiftProcess(_ opaque: UnsafeMutableRawPointer) -> Int {
    let side = opaque.assumingMemoryBound(to: SwiftSide.self)
    return process(&side.pointee)
}

@inline(__always)
private func process(_ side: inout SwiftSide) -> Int {
    var total = 0
    repeat {
        side.queue.suppressNotifications()
        while true {
            let count = serveBatch(&side)
            if count == 0 { break }
            total &+= count
        }
    } while side.queue.requestNotifications()
    return total
}

@inline(__always)
private func serveBatch(_ side: inout SwiftSide) -> Int {
    var count = 0
    side.pieces.removeAll()
    do throws(VirtqueueError) {
        while count < 64, let buffer = try side.queue.take(&side.pieces) {
            (side.buffers + count).initialize(to: buffer)
            count &+= 1
        }
    } catch {
        return 0
    }
    if count == 0 { return 0 }
    for index in 0..<count {
        let buffer = side.buffers[index]
        side.sum &+= buffer.readableLength &+ UInt64(buffer.writablePieceCount)
        side.queue.put(
            UsedBuffer(
                id: buffer.id, writtenLength: UInt32(truncatingIfNeeded: buffer.writableLength)))
    }
    side.queue.flush()
    side.queue.signal()
    return count
}
