// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SystemPackage

/// Writes every packet that passes a device into a file that Wireshark reads (pcap, LINKTYPE_VSOCK).
///
/// A record is what the kernel's vsockmon gives: struct af_vsockmon_hdr (32 bytes), the header of
/// the packet (44 bytes), its payload. The file ends at the packet that would exceed its limit.
///
/// Lives on its device's thread, which never waits for the file: another one writes it. Packets that
/// come faster than the file takes them are left out once `backlogLimit` bytes wait, and counted.
final class PacketCapture {
    private enum Layout {
        /// What a file starts with: 0xa1b2c3d4 of a machine with the least significant byte first.
        static let start: [UInt8] = [0xd4, 0xc3, 0xb2, 0xa1]
        /// The first bytes of a record.
        static let recordHeaderByteCount = 16
        static let monitorHeaderByteCount = 32
        /// LINKTYPE_VSOCK.
        static let linkType: UInt32 = 271
        /// A packet of 64 KiB with its headers.
        static let snapLength: UInt32 = 256 * 1024
    }

    /// Bytes that are gathered before they are written.
    private static let chunkByteCount = 256 * 1024
    /// Bytes that wait for the file at most.
    private static let backlogLimit = 8 << 20

    private let writer: FileWriter
    private let loop: EventLoop
    private let log: Logger
    private let byteLimit: UInt64
    private var byteCount: UInt64 = 0
    private var waiting: [UInt8] = []
    /// What the loop's clock lacks to the time of day, in nanoseconds.
    private let epochOffset: UInt64
    /// Whether the file takes no more packets.
    private var isOver = false
    /// Packets that were left out.
    private(set) var missedPacketCount: UInt64 = 0

    /// Makes the file anew.
    ///
    /// - Throws: the errno of opening it, or of making the thread that writes it; EEXIST for a file
    ///   that is no capture.
    init(
        _ options: CaptureOptions, loop: EventLoop, log: Logger
    ) throws(Errno) {
        writer = try FileWriter(
            path: options.path, replacing: Layout.start, threadName: "vsock-capture")
        byteLimit = options.byteLimit
        epochOffset = SystemClock.timeOfDay &- loop.now.nanoseconds
        self.loop = loop
        self.log = log
        append(Layout.start)
        append([2 as UInt16, 4])
        append([0 as UInt32, 0, Layout.snapLength, Layout.linkType])
        byteCount = UInt64(waiting.count)
        flush()
    }

    /// Notes a packet.
    ///
    /// - Parameters:
    ///   - header: of the packet.
    ///   - pieces: where its payload lies behind 44 bytes.
    func record(_ header: VsockHeader, _ pieces: IOVectorSlice) {
        if isOver { return }
        let room = Int(Layout.snapLength) - Layout.monitorHeaderByteCount - VsockHeader.byteCount
        let kept = pieces.bytes(
            min(Int(header.length), room, max(0, pieces.byteCount - VsockHeader.byteCount)),
            from: VsockHeader.byteCount)
        let headers = Layout.monitorHeaderByteCount + VsockHeader.byteCount
        let added = UInt64(Layout.recordHeaderByteCount + headers + kept.count)
        guard byteCount + added <= byteLimit else {
            end("the file is as long as it may be")
            return
        }
        guard writer.waitingByteCount + waiting.count + Int(added) <= Self.backlogLimit else {
            return miss()
        }
        byteCount += added
        let moment = (loop.now.nanoseconds &+ epochOffset) / 1000
        append([
            UInt32(truncatingIfNeeded: moment / 1_000_000), UInt32(moment % 1_000_000),
            UInt32(headers + kept.count), UInt32(headers) &+ header.length,
        ])
        appendMonitorHeader(header)
        append(header)
        waiting += kept
        if waiting.count >= Self.chunkByteCount { flush() }
    }

    /// struct af_vsockmon_hdr (linux/vsockmon.h).
    private func appendMonitorHeader(_ header: VsockHeader) {
        append([header.sourceCID, header.destinationCID])
        append([header.sourcePort, header.destinationPort])
        // AF_VSK_TRANSPORT_VIRTIO, and the length of its header.
        append([Self.kind(of: header.operation), 2, UInt16(VsockHeader.byteCount), 0])
    }

    private func append(_ header: VsockHeader) {
        append([header.sourceCID, header.destinationCID])
        append([header.sourcePort, header.destinationPort, header.length])
        append([header.type, header.operation])
        append([header.flags, header.bufferAllocation, header.forwardCount])
    }

    /// AF_VSK_OP_*.
    private static func kind(of operation: UInt16) -> UInt16 {
        switch Operation(rawValue: operation) {
        case .request, .response: 1
        case .reset, .shutdown: 2
        case .creditUpdate, .creditRequest: 3
        case .readWrite: 4
        case nil: 0
        }
    }

    private func append<Number: FixedWidthInteger>(_ numbers: [Number]) {
        for number in numbers {
            for shift in stride(from: 0, to: Number.bitWidth, by: 8) {
                waiting.append(UInt8(truncatingIfNeeded: number >> Number(shift)))
            }
        }
    }

    /// Hands what has been gathered to the thread that writes.
    func flush() {
        if waiting.isEmpty { return }
        if !isOver, let failure = writer.failure {
            waiting = []
            return end("\(failure)")
        }
        writer.write(waiting)
        waiting = []
    }

    /// Bytes that the file has not taken yet.
    var waitingByteCount: Int { writer.waitingByteCount }

    /// Writes the rest and waits for it; nothing is noted any more.
    func close() {
        isOver = true
        flush()
        writer.finish()
        if missedPacketCount > 0 {
            log.warning(
                "packets are missing in the capture", metadata: ["count": "\(missedPacketCount)"])
        }
    }

    private func miss() {
        if missedPacketCount == 0 {
            log.warning("packets come faster than their capture can be written: some are left out")
        }
        missedPacketCount &+= 1
    }

    private func end(_ reason: String) {
        isOver = true
        flush()
        log.warning("no more packets are captured", metadata: ["reason": "\(reason)"])
    }
}

/// Where the packets of a device are written.
public struct CaptureOptions: Equatable, Sendable {
    /// The file; what is in it is lost.
    public var path: String
    /// Bytes that the file may have.
    public var byteLimit: UInt64

    public init(path: String, byteLimit: UInt64 = 64 << 20) {
        self.path = path
        self.byteLimit = byteLimit
    }
}
