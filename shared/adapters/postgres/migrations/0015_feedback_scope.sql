-- What the question was asked of, so that a golden set can place it when its answer is not kept any more. null: not known.

alter table answer_feedback
    add column collection text,
    add column filter jsonb;
