// SPDX-License-Identifier: Apache-2.0

/// What one command may ask of a disk, as the Block Limits page tells initiators (SBC-3).
enum DiskLimits {
    /// Bytes that a command may read or write.
    static let transferByteCount = (32 << 20) - 4096
    /// Blocks that an UNMAP command may free, over all its descriptors.
    static let unmapBlockCount = 1 << 20
    /// Descriptors that an UNMAP command may have.
    static let unmapDescriptorCount = 256
    /// Blocks that a WRITE SAME command may fill.
    static let writeSameBlockCount = 65535
    /// Blocks that a COMPARE AND WRITE command may compare.
    static let compareAndWriteBlockCount = 255
    /// Commands of a disk that may go through memory of ours at once.
    ///
    /// One more is answered with TASK SET FULL, and sent again by the initiator: memory that a
    /// guest makes us take is bounded.
    static let operationCount = 64
    /// Bytes that work is done by where it goes through memory of ours.
    static let chunkByteCount = 1 << 20
}
