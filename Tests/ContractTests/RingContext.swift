// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Virtio

/// A driver and a device around one ring.
final class RingContext {
    let memory: TestMemory
    let driver: any RingDriver
    let deviceMemory: GuestMemory
    let notifier = SignalCounter()
    var queue: Virtqueue
    var pieces = IOVectorArray(capacity: 4)

    init(_ format: RingFormat, _ options: RingOptions, in memory: TestMemory? = nil) throws {
        let memory = try memory ?? TestMemory()
        self.memory = memory
        driver = format.makeDriver(in: memory, options)
        deviceMemory = try memory.deviceMemory()
        queue = try Virtqueue(driver.configuration, memory: deviceMemory, notifier: notifier)
    }
}
