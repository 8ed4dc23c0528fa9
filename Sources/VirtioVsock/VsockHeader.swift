// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The header of every packet (virtio 1.3 §5.10.6, struct virtio_vsock_hdr): 44 bytes, packed,
/// little-endian.
struct VsockHeader: BitwiseCopyable, Equatable {
    /// Bytes that a header has on the wire.
    static let byteCount = 44

    /// The sender's context identifier; the upper 32 bits are reserved.
    var sourceCID: UInt64 = 0
    /// The receiver's context identifier.
    var destinationCID: UInt64 = 0
    var sourcePort: UInt32 = 0
    var destinationPort: UInt32 = 0
    /// Bytes of payload behind the header; the buffers may be longer.
    var length: UInt32 = 0
    /// A `PacketType`.
    var type: UInt16 = 0
    /// An `Operation`.
    var operation: UInt16 = 0
    /// What `ShutdownFlags` says, of SHUTDOWN.
    ///
    /// Of RW in SEQPACKET: end of message, end of record.
    var flags: UInt32 = 0
    /// Bytes that the sender of this packet has room for in this connection (buf_alloc).
    var bufferAllocation: UInt32 = 0
    /// Bytes that the sender of this packet has consumed in this connection (fwd_cnt), modulo 2^32.
    var forwardCount: UInt32 = 0

    init() {}

    /// Copies the header out of the first 44 bytes, wherever they lie (virtio 1.3 §2.7.4); nil when
    /// there are fewer.
    ///
    /// The guest may rewrite them: this copy is all that is ever looked at.
    @inline(__always)
    init?(_ pieces: IOVectorSlice) {
        guard let wire = pieces.load(VsockHeader.self) else { return nil }
        self = wire.swappedWhereNeeded
    }

    /// Writes the header into the first 44 bytes; false when there are fewer.
    @inline(__always)
    @discardableResult
    func store(to pieces: IOVectorSlice) -> Bool {
        pieces.store(swappedWhereNeeded)
    }

    /// Between the machine's order of bytes and little-endian; on little-endian machines nothing.
    @inline(__always)
    private var swappedWhereNeeded: VsockHeader {
        var header = VsockHeader()
        header.sourceCID = sourceCID.littleEndian
        header.destinationCID = destinationCID.littleEndian
        header.sourcePort = sourcePort.littleEndian
        header.destinationPort = destinationPort.littleEndian
        header.length = length.littleEndian
        header.type = type.littleEndian
        header.operation = operation.littleEndian
        header.flags = flags.littleEndian
        header.bufferAllocation = bufferAllocation.littleEndian
        header.forwardCount = forwardCount.littleEndian
        return header
    }
}

/// What a packet is for (virtio 1.3 §5.10.6, VIRTIO_VSOCK_OP_*).
enum Operation: UInt16 {
    /// VIRTIO_VSOCK_OP_REQUEST: asks for a connection.
    case request = 1
    /// VIRTIO_VSOCK_OP_RESPONSE: accepts it.
    case response = 2
    /// VIRTIO_VSOCK_OP_RST: ends it, or refuses it.
    case reset = 3
    /// VIRTIO_VSOCK_OP_SHUTDOWN: the sender will not receive, or not send, any more.
    case shutdown = 4
    /// VIRTIO_VSOCK_OP_RW: payload.
    case readWrite = 5
    /// VIRTIO_VSOCK_OP_CREDIT_UPDATE: nothing but the two credit fields.
    case creditUpdate = 6
    /// VIRTIO_VSOCK_OP_CREDIT_REQUEST: asks for a credit update.
    case creditRequest = 7
}

/// The kind of a connection (virtio 1.3 §5.10.6, VIRTIO_VSOCK_TYPE_*).
enum PacketType: UInt16 {
    /// VIRTIO_VSOCK_TYPE_STREAM: bytes in order, without borders.
    case stream = 1
    /// VIRTIO_VSOCK_TYPE_SEQPACKET: messages, kept whole.
    case sequencedPacket = 2
}

/// What RW says of a message (virtio 1.3 §5.10.6.1, VIRTIO_VSOCK_SEQ_*).
///
/// The end of a record (2) cannot be carried by Unix sockets and is dropped.
enum MessageFlags {
    /// VIRTIO_VSOCK_SEQ_EOM: the packet ends a message.
    static let endOfMessage: UInt32 = 1
}

/// Which halves of a connection its sender has closed, for good (virtio 1.3 §5.10.6.6).
struct ShutdownFlags: OptionSet, BitwiseCopyable, Hashable {
    let rawValue: UInt32

    /// VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE: the sender of the packet will receive no more.
    static let receive = ShutdownFlags(rawValue: 1)
    /// VIRTIO_VSOCK_SHUTDOWN_F_SEND: the sender of the packet will send no more.
    static let send = ShutdownFlags(rawValue: 2)
    /// Both halves: the connection is over.
    static let both: ShutdownFlags = [.receive, .send]
}
