// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import LinuxIO

/// A request's owner, not retained: the owner sees to it that it lives until it is called.
///
/// SAFETY: the two words are those of a class-bound existential, written from a live one. They are
/// only ever read as one while the contract of `BlockStore.submit` keeps the object alive, and
/// never destroyed as one, so that no reference is counted on the way in or out.
@safe struct OwnerReference {
    private var words: (UInt, UInt)

    @inline(__always)
    init(_ owner: any BlockRequestOwner) {
        // The `as` keeps the compiler from opening the existential: both words are wanted.
        unsafe words = unsafeBitCast(owner as any BlockRequestOwner, to: (UInt, UInt).self)
    }

    /// Tells the owner.
    @inline(__always)
    func requestEnded(token: UInt64, outcome: BlockOutcome) {
        unsafe withUnsafePointer(to: words) { words in
            unsafe UnsafeRawPointer(words).assumingMemoryBound(to: LiveOwner.self)
                .pointee.requestEnded(token: token, outcome: outcome)
        }
    }
}

/// The same words while they are used; a type that cannot be copied, so that calling through it
/// borrows the reference instead of counting it.
private struct LiveOwner: ~Copyable {
    let owner: any BlockRequestOwner

    @inline(never)
    borrowing func requestEnded(token: UInt64, outcome: BlockOutcome) {
        owner.blockRequestEnded(token: token, outcome: outcome)
    }
}

/// A request's store, not retained: the context keeps it while it has requests.
typealias StoreReference = BorrowedReference<FileStore>
