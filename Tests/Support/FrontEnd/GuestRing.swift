// SPDX-License-Identifier: Apache-2.0

public import Driver
public import SystemPackage
import Virtio

/// One ring of a guest, with the eventfds that its front-end makes for it.
public final class GuestRing {
    public let index: Int
    public let driver: any RingDriver
    public let kick: Signal
    public let call: Signal
    public let error: Signal
    /// Where the back-end is to go on: fresh, or as it said when the ring stopped.
    public var base: UInt32

    /// A ring with new eventfds.
    ///
    /// - Parameters:
    ///   - index: the number of the ring.
    ///   - driver: its guest's side; its kicks go to the eventfd from now on.
    ///   - kickValue: what the kick eventfd starts at.
    /// - Throws: the errno of making an eventfd.
    public init(_ index: Int, _ driver: any RingDriver, kickValue: UInt32 = 0) throws(Errno) {
        self.index = index
        self.driver = driver
        let kick = try Signal(value: kickValue)
        self.kick = kick
        call = try Signal()
        error = try Signal()
        base = driver.configuration.base
        driver.onKick = { kick.raise() }
    }

    /// Pages (guest address / 4096) that a ring of up to 128 entries has parts in.
    public var pages: Set<UInt64> {
        let configuration = driver.configuration
        return [configuration.descriptorArea, configuration.driverArea, configuration.deviceArea]
            .reduce(into: []) { pages, area in
                pages.formUnion(area.rawValue / 4096...(area.rawValue + 2047) / 4096)
            }
    }

    var sizeMessage: FrontEndMessage { .setRingSize(index, UInt32(driver.size)) }
    var baseMessage: FrontEndMessage { .setRingBase(index, base) }
    var kickMessage: FrontEndMessage { .setRingKick(index, kick.rawDescriptor) }
    var callMessage: FrontEndMessage { .setRingCall(index, call.rawDescriptor) }
    var errorMessage: FrontEndMessage { .setRingError(index, error.rawDescriptor) }

    /// Where the ring lies, in the front-end's addresses.
    public func addressMessage(flags: UInt32 = 0, log: UInt64 = 0) -> FrontEndMessage {
        let configuration = driver.configuration
        let memory = driver.memory
        return .setRingAddresses(
            index, flags: flags,
            descriptors: memory.frontEndAddress(of: configuration.descriptorArea.rawValue),
            used: memory.frontEndAddress(of: configuration.deviceArea.rawValue),
            available: memory.frontEndAddress(of: configuration.driverArea.rawValue), log: log)
    }
}
