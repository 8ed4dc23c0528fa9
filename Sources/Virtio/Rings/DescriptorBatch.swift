// SPDX-License-Identifier: Apache-2.0

/// The descriptors that were fetched and not taken yet: whole chains, one after another.
///
/// A ring starts a chain only while there are fewer than `threshold` descriptors, and there is room
/// for the longest chain beyond that: no chain, and no indirect table, is ever split across two
/// batches.
struct DescriptorBatch: ~Copyable {
    /// Descriptors after which no further chain is fetched.
    static var threshold: Int { 64 }

    let descriptors: PlainTable<Descriptor>
    /// The first descriptor that was not taken.
    var position = 0
    /// Descriptors in the batch.
    var count = 0
    /// What is wrong with the chain that follows the last one of the batch.
    ///
    /// Kept back until those before it were taken.
    var error: VirtqueueError?

    /// An empty batch, for chains of up to `longestChain` descriptors.
    init(longestChain: Int) {
        descriptors = PlainTable(count: Self.threshold + longestChain)
    }

    /// Buffers in the batch that were not taken, and the ring entries that they use.
    var untaken: (buffers: Int, entries: Int) {
        var buffers = 0
        var entries = 0
        var tableOpen = false
        for index in position..<count {
            let descriptor = descriptors[index]
            if !descriptor.isIndirect || !tableOpen { entries += 1 }
            tableOpen = descriptor.isIndirect && descriptor.hasNext
            if !descriptor.hasNext { buffers += 1 }
        }
        return (buffers, entries)
    }

    /// Forgets everything, so that the ring is looked at again.
    mutating func discard() {
        position = 0
        count = 0
        error = nil
    }
}
