"""How the pocket checkpoint is made: the drawn world, the training loops, the export and the evaluation."""
