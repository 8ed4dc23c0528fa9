// SPDX-License-Identifier: Apache-2.0

/// Commands that wait for the target, the oldest first.
struct CommandQueue {
    private var storage: [ISCSICommand] = []
    private var head = 0

    var count: Int { storage.count - head }
    var isEmpty: Bool { head == storage.count }

    /// Adds a command as the youngest.
    mutating func append(_ command: ISCSICommand) {
        storage.append(command)
    }

    /// The oldest command.
    var first: ISCSICommand? { isEmpty ? nil : storage[head] }

    /// Takes the oldest command.
    mutating func popFirst() -> ISCSICommand? {
        guard let first else { return nil }
        head += 1
        if isEmpty {
            removeAll()
        } else if head >= 1024 {
            storage.removeFirst(head)
            head = 0
        }
        return first
    }

    /// Puts commands before all others, the first of them the oldest.
    mutating func prepend(_ commands: [ISCSICommand]) {
        storage.replaceSubrange(0..<head, with: commands)
        head = 0
    }

    /// Takes the command with a token.
    mutating func remove(token: UInt64) -> ISCSICommand? {
        guard let index = storage[head...].firstIndex(where: { $0.token == token }) else {
            return nil
        }
        return storage.remove(at: index)
    }

    /// Takes every command.
    mutating func takeAll() -> [ISCSICommand] {
        let all = Array(storage[head...])
        removeAll()
        return all
    }

    private mutating func removeAll() {
        storage.removeAll(keepingCapacity: true)
        head = 0
    }
}
