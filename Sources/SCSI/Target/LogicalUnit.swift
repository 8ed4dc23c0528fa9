// SPDX-License-Identifier: Apache-2.0

/// What executes commands: a disk over a block store, or a way to one elsewhere.
///
/// A logical unit belongs to one event loop's thread, as the bus that it is attached to.
public protocol LogicalUnit: AnyObject {
    /// The commands under way on this unit, of every nexus.
    var taskSet: TaskSet { get }

    /// How sense data are laid out now (SPC-4, Control mode page, D_SENSE).
    var senseFormat: Sense.Format { get }

    /// Executes a command, which ends in exactly one call of one of the ends of `commands`, at once
    /// or later.
    ///
    /// A unit that finds that the command has to wait for another one of the task set calls
    /// `TaskSet.wait`; it is asked to execute the command again when that one has ended.
    func execute(_ index: Int, in commands: CommandTable, over path: ITLNexus)

    /// Nobody wants the outcome of a command under way any more.
    ///
    /// The unit ends it as soon as nothing touches its buffers later; it may do nothing.
    func abort(_ index: Int, in commands: CommandTable)

    /// LOGICAL UNIT RESET: what a reset sets back is set back. The commands have been aborted.
    func reset()

    /// The nexus is lost, or its initiator starts anew: what belongs to it is forgotten.
    func nexusLost(_ path: ITLNexus)

    /// A nexus can reach the unit from now on; its commands stand in `commands`.
    func attached(_ path: ITLNexus, commands: CommandTable)

    /// A nexus can reach the unit no more.
    func detached(_ path: ITLNexus)
}
