// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
import Synchronization

/// A dirty log that a front-end shares: one bit for each 4096 bytes of guest memory, by guest
/// address, lowest bit first (vhost-user, "Migration").
///
/// Others write to it, too: the front-end takes bits away, other devices of the guest set theirs.
/// Any thread may mark. It belongs to a front-end: what lies beyond its end is never touched, and a
/// page that the front-end cuts off is lost as one of guest memory is.
///
/// SAFETY: the mapping lives as long as its one owner, and every byte is reached by an atomic
/// operation whose offset was compared with the mapping's length.
@safe public final class DirtyBitmap: DirtyLog, @unchecked Sendable {
    // SAFETY (of Sendable): nothing changes after the initialiser but the shared bytes.

    /// VHOST_LOG_PAGE, in bytes.
    private static let pageByteCount: UInt64 = 4096

    private let mapping: MappedRegion
    /// Bytes, and so one eighth of the pages.
    public let byteCount: UInt64

    /// A log that was mapped, whole.
    public init(_ mapping: consuming MappedRegion) {
        byteCount = UInt64(mapping.byteCount)
        self.mapping = mapping
    }

    /// Whether the log has a bit for every page of a region.
    public func covers(_ region: GuestMemory.Region) -> Bool {
        guard region.byteCount > 0 else { return true }
        let (last, overflow) = region.guestAddress.rawValue
            .addingReportingOverflow(region.byteCount - 1)
        return !overflow && last / Self.pageByteCount / 8 < byteCount
    }

    public func markDirty(_ address: GuestAddress, byteCount: UInt64) {
        guard byteCount > 0 else { return }
        let (end, overflow) = address.rawValue.addingReportingOverflow(byteCount - 1)
        let first = address.rawValue / Self.pageByteCount
        let last = (overflow ? .max : end) / Self.pageByteCount
        guard first / 8 < self.byteCount else { return }
        let lastByte = min(last / 8, self.byteCount - 1)
        var byte = first / 8
        while byte <= lastByte {
            var bits: UInt8 = 0xff
            if byte == first / 8 { bits &= 0xff << UInt8(first % 8) }
            if byte == last / 8 { bits &= 0xff >> UInt8(7 - last % 8) }
            set(bits, in: Int(byte))
            byte += 1
        }
    }

    /// Sets bits of a byte: a byte, because the log may end with any, and others set the bits
    /// beside ours.
    ///
    /// Whoever takes a bit away has to see what was written before: it releases. x86-64: a locked
    /// instruction. It must be done even if the bit is set: that one may just have been taken.
    private func set(_ bits: UInt8, in byte: Int) {
        // SAFETY: the byte lies in the mapping, see `markDirty`; any address will do for one byte.
        _ = unsafe (mapping.base + byte).assumingMemoryBound(to: Atomic<UInt8>.self)
            .pointee.bitwiseOr(bits, ordering: .releasing)
    }
}
