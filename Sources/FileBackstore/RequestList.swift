// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Requests that wait for the same thing, first come first served.
///
/// The links lie in the requests, so that waiting allocates nothing.
struct RequestList {
    private var first: Int?
    private var last: Int?

    var isEmpty: Bool { first == nil }

    mutating func append(_ index: Int, in requests: borrowing Slab<AIORequest>) {
        requests[index].next = nil
        if let last { requests[last].next = index } else { first = index }
        last = index
    }

    mutating func removeFirst(in requests: borrowing Slab<AIORequest>) -> Int? {
        guard let index = first else { return nil }
        first = requests[index].next
        if first == nil { last = nil }
        return index
    }

    /// Removes the first one that fits; the others stay in order.
    mutating func removeFirst(
        in requests: borrowing Slab<AIORequest>, where fits: (Int) -> Bool
    ) -> Int? {
        var others = RequestList()
        var found: Int?
        while let index = removeFirst(in: requests) {
            if found == nil && fits(index) {
                found = index
            } else {
                others.append(index, in: requests)
            }
        }
        self = others
        return found
    }
}
