// SPDX-License-Identifier: Apache-2.0

public import BlockStorage
import LinuxIO

/// What a store of another loop needs to reach the medium of a store: the open file and its shape.
///
/// The file stays open, and locked, until the last of its stores has ended.
public struct FileStoreTwin: Sendable {
    let path: String
    let isReadOnly: Bool
    /// As it was when the twin was asked for.
    public let geometry: BlockGeometry
    let isBlockDevice: Bool
    let alignment: DirectAlignment?
    let descriptor: SharedDescriptor
    let possession: Possession
    /// All stores of a file have one share of the workers, however many they are.
    let workerLane: WorkerLane
}

/// A descriptor of several owners, closed when the last one lets it go.
final class SharedDescriptor: Sendable {
    let owned: OwnedDescriptor

    init(_ owned: consuming OwnedDescriptor) {
        self.owned = owned
    }
}
