// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import Virtio

/// What a front-end did wrong, or what it asked for that could not be done.
enum VhostUserError: Error, Equatable {
    // The stream.
    case illegalFlags(UInt32)
    case payloadTooLong(byteCount: UInt32)
    case strayDescriptors
    case tooManyDescriptors
    case endInsideMessage

    // The form of a request.
    case unknownRequest(UInt32)
    case notNegotiated(RequestCode)
    case illegalSize(RequestCode, byteCount: Int)
    case illegalDescriptorCount(RequestCode, count: Int)
    case reservedBits(RequestCode, UInt64)
    case noSuchRing(index: UInt64, count: Int)

    // What it asks for.
    case unofferedFeatures(VirtioFeatures)
    case unofferedProtocolFeatures(ProtocolFeatures)
    case featuresChangedWhileRunning
    case illegalRingSize(UInt32)
    case misalignedRing(index: Int)
    case baseOutOfRange(UInt32, size: Int)
    case ringRuns(index: Int)
    case unusableDescriptor(RequestCode, Errno)
    case enableWithoutProtocolFeatures
    case configurationNotWritable(offset: UInt32, byteCount: UInt32)

    // Memory.
    case tooManyRegions(count: UInt32, limit: Int)
    case regionPastEndOfAddressSpace(UInt64)
    case regionRefused(GuestMemoryError)
    case mappingFailed(GuestAddress, Errno)
    case noSuchRegion(GuestAddress)
    case regionInUse(GuestAddress)
    case noSharedMemory
    case ringOutsideMemory(index: Int)

    // The dirty log.
    case logMappingFailed(LogArea, Errno)
    case logTooShort(byteCount: UInt64, GuestAddress)
    case unloggedRequests(queueCount: Int)
}

extension VhostUserError {
    /// What becomes of the session when the front-end does not wait for an answer that could tell
    /// it.
    enum Consequence {
        /// The session goes on.
        case none
        /// The session ends, because the two sides no longer agree on the state.
        case endUnlessAcknowledged
        /// The session ends in any case.
        case end
    }

    var consequence: Consequence {
        switch self {
        case .illegalFlags, .payloadTooLong, .strayDescriptors, .tooManyDescriptors,
            .endInsideMessage, .unofferedFeatures, .unofferedProtocolFeatures:
            .end
        case .noSharedMemory, .ringOutsideMemory, .enableWithoutProtocolFeatures,
            .configurationNotWritable:
            .none
        default: .endUnlessAcknowledged
        }
    }
}

extension VhostUserError: CustomStringConvertible {
    var description: String {
        switch self {
        case .illegalFlags(let flags):
            "header flags 0x\(String(flags, radix: 16)) are not of version 1"
        case .payloadTooLong(let byteCount):
            "payload of \(byteCount) bytes, at most \(MessageHeader.maximumPayloadByteCount) fit"
        case .strayDescriptors: "descriptors came in the middle of a message"
        case .tooManyDescriptors: "more descriptors came than a message may carry or may be open"
        case .endInsideMessage: "the connection ended in the middle of a message"
        case .unknownRequest(let number): "request \(number) is not served"
        case .notNegotiated(let code): "the feature for \(code) was not negotiated"
        case .illegalSize(let code, let byteCount): "\(code) with a payload of \(byteCount) bytes"
        case .illegalDescriptorCount(let code, let count): "\(code) with \(count) descriptors"
        case .reservedBits(let code, let value):
            "\(code) with the illegal value 0x\(String(value, radix: 16))"
        case .noSuchRing(let index, let count): "ring \(index), the device has \(count)"
        case .unofferedFeatures(let features):
            "features 0x\(String(features.rawValue, radix: 16)) were not offered and cannot be ignored"
        case .unofferedProtocolFeatures(let features):
            "protocol features 0x\(String(features.rawValue, radix: 16)) were not offered"
        case .featuresChangedWhileRunning: "features changed while a ring was running"
        case .illegalRingSize(let size): "ring of \(size) entries, 1 to 32768 are legal"
        case .misalignedRing(let index): "the addresses of ring \(index) are not aligned"
        case .baseOutOfRange(let base, let size):
            "base 0x\(String(base, radix: 16)) of a ring of \(size) entries"
        case .ringRuns(let index): "ring \(index) is running, it has to be stopped first"
        case .unusableDescriptor(let code, let error): "the descriptor of \(code): \(error)"
        case .enableWithoutProtocolFeatures:
            "enabling a ring needs VHOST_USER_F_PROTOCOL_FEATURES"
        case .configurationNotWritable(let offset, let byteCount):
            "\(byteCount) bytes of configuration at \(offset) are not writable"
        case .tooManyRegions(let count, let limit): "\(count) memory regions, at most \(limit)"
        case .regionPastEndOfAddressSpace(let address):
            "the region at front-end address 0x\(String(address, radix: 16)) overflows"
        case .regionRefused(let error): "memory region refused: \(error)"
        case .mappingFailed(let address, let error):
            "mapping the region at guest address 0x\(String(address.rawValue, radix: 16)): \(error)"
        case .noSuchRegion(let address):
            "there is no such region at guest address 0x\(String(address.rawValue, radix: 16))"
        case .regionInUse(let address):
            "requests in flight still use the region at 0x\(String(address.rawValue, radix: 16))"
        case .noSharedMemory:
            "front-end shared no memory: add <memoryBacking><source type='memfd'/>"
                + "<access mode='shared'/></memoryBacking>"
        case .ringOutsideMemory(let index): "ring \(index) lies outside the shared memory"
        case .logMappingFailed(let area, let error):
            "mapping a dirty log of \(area.byteCount) bytes at \(area.offset): \(error)"
        case .unloggedRequests(let count):
            "requests of \(count) queues were given up and may still write without a log"
        case .logTooShort(let byteCount, let address):
            "a dirty log of \(byteCount) bytes has no place for all of the region at "
                + "0x\(String(address.rawValue, radix: 16))"
        }
    }
}
